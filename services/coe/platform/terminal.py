"""Ends prompts that cannot continue: with a terminal error event, or a dead letter if no caller can be told."""

import time

from coe._proto import common_pb2, events_pb2
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import answered_in_json
from coe.platform.errors import CoEError
from coe.platform.prompts import MAX_NAME_CHARS

# Topics whose key is the request id, so that even an undecodable message identifies its prompt.
_KEYED_BY_REQUEST = frozenset({topics.PROMPTS, topics.ROUTED})


def error_outcome(
    record: Record | None,
    submitted: events_pb2.PromptSubmitted | None,
    error: CoEError,
    *,
    routing: common_pb2.RoutingDecision | None = None,
    assignment: common_pb2.Assignment | None = None,
    timings: common_pb2.Timings | None = None,
    attempt: int = 0,
    worker: str = "",
    now_ms: int | None = None,
) -> Outcome:
    """The outcome of handling `record`: PromptCompleted with the error, published under the request id.

    `submitted`: None if the message could not be decoded. Its bytes then go to the dead letters; the terminal event is
    published too if the record's key is the request id. A message with no request id, or one too long for an answer to
    carry, only becomes a dead letter.
    """
    name = request_id(record, submitted)
    dead_letter = error if submitted is None or not name else None
    if not name:
        return Outcome(dead_letter=dead_letter)
    completed = events_pb2.PromptCompleted(
        request_id=name,
        error=error.to_proto(),
        routing=routing,
        assignment=assignment,
        timings=timings,
        attempt=attempt,
        worker=worker,
        tenant=submitted.tenant if submitted is not None else "",
        completed_at_ms=now_ms if now_ms is not None else time.time_ns() // 1_000_000,
    )
    as_json = record is not None and answered_in_json(record)
    return Outcome(publish=(Outgoing(topics.COMPLETIONS, name, completed, as_json=as_json),), dead_letter=dead_letter)


def request_id(record: Record | None, submitted: events_pb2.PromptSubmitted | None) -> str:
    """The request id under which a terminal event can be published; empty if there is none."""
    name = submitted.request_id if submitted is not None else _id_from_key(record)
    return name if len(name) <= MAX_NAME_CHARS else ""


def _id_from_key(record: Record | None) -> str:
    if record is None or record.key is None or record.topic not in _KEYED_BY_REQUEST:
        return ""
    try:
        key = record.key.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return key if key.isprintable() and len(key) <= MAX_NAME_CHARS else ""
