"""Turns outcomes into messages and dead letters ready to send, within the size limit."""

import time
from dataclasses import dataclass, replace

import structlog

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Outcome, Record
from coe.platform.bus.codec import encode
from coe.platform.bus.headers import Headers, carried, cloud_event, dead_letter
from coe.platform.errors import CoEError, InternalError
from coe.platform.telemetry import events
from coe.platform.terminal import error_outcome

_log = structlog.stdlib.get_logger(__name__)

# Maximum size of a message, including its headers. Topics are created with the same limit.
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
# Room for the trace context and the record's own framing.
_MOST_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
# Upper bound for the encoded lengths of a header's name and value.
_HEADER_BYTES = 10
# Bytes kept of a record that is too large for a dead letter.
_BEGINNING_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to send, except for its trace context."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    partition: int | None = None

    @property
    def nbytes(self) -> int:
        headers = sum(len(name.encode()) + len(value or b"") + _HEADER_BYTES for name, value in self.headers)
        return len(self.key or b"") + len(self.value) + headers


def messages(record: Record, outcome: Outcome, source: str, attempt: int) -> list[Message]:
    """The messages to publish for a record.

    An outcome that cannot be encoded, or is too large for a topic, is replaced by its terminal error.
    """
    try:
        out = _published(outcome, source, record)
        large = next((message for message in out if message.nbytes > _MOST_BYTES), None)
        if large is None:
            events.observe(record, outcome)
            letters = [] if outcome.dead_letter is None else [_letter(record, outcome.dead_letter, attempt)]
            return out + letters
        error = InternalError(f"the result has {large.nbytes} bytes, more than a message may have")
    except Exception as failure:
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        _log.error("an outcome could not be written", **where, exc_info=failure)
        error = InternalError("the result could not be written; the service's log has the reason")
    return refused(record, outcome, source, attempt, error)


def refused(record: Record, outcome: Outcome, source: str, attempt: int, error: CoEError) -> list[Message]:
    """The replacement for an outcome that cannot be published: a terminal error and a dead letter.

    The dead letter has the record's position and beginning, without its headers, so that it cannot be refused too.
    """
    ended = replace(error_outcome(record, _submitted(outcome), error, attempt=attempt), dead_letter=error)
    events.observe(record, ended)
    return [*_published(ended, source), _letter(_beginning(record), error, attempt)]


def _submitted(outcome: Outcome) -> events_pb2.PromptSubmitted | None:
    """The prompt the outcome belongs to. A record's key need not be the prompt's id; an assignment's is not."""
    for outgoing in outcome.publish:
        match outgoing.message:
            case events_pb2.PromptCompleted() as ended:
                return events_pb2.PromptSubmitted(request_id=ended.request_id, tenant=ended.tenant)
            case events_pb2.PromptRouted() | events_pb2.PromptAssigned() as onward if onward.prompt.request_id:
                return onward.prompt
    return None


def _published(outcome: Outcome, source: str, parent: Record | None = None) -> list[Message]:
    """The outcome's messages, which inherit headers from `parent`."""
    now_ms = time.time_ns() // 1_000_000
    out = []
    for one in outcome.publish:
        inherited = one.headers if parent is None else carried(parent, one.headers)
        headers = cloud_event(one, source, now_ms, inherited)
        out.append(Message(one.topic, one.key.encode(), encode(one), headers, one.partition))
    return out


def _letter(record: Record, error: CoEError, attempt: int) -> Message:
    """A dead letter with the whole record, or with its beginning if it is too large."""
    own = ("traceparent", "tracestate")
    headers = [(name, value) for name, value in dead_letter(record, error, attempt + 1) if name not in own]
    letter = Message(topics.DEAD_LETTER, record.key, record.value, headers)
    return letter if letter.nbytes <= _MOST_BYTES else _letter(_beginning(record), error, attempt)


def _beginning(record: Record) -> Record:
    """The record's beginning. A dead letter's headers tell where to find the rest."""
    key = None if record.key is None else record.key[:_BEGINNING_BYTES]
    return record._replace(key=key, value=record.value[:_BEGINNING_BYTES], headers=())
