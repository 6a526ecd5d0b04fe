"""The bytes that an outcome becomes: its messages and dead letters."""

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

# Most bytes of one message, its headers included. Topics are made with the same limit.
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
# Room for the trace context and the record's own framing.
_MOST_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
# The lengths of a header's name and value, which come before them.
_HEADER_BYTES = 10
# Of a record that is too large to be set aside whole.
_BEGINNING_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to go, but for the trace context."""

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
    """What to publish for one record. An outcome that no topic would take becomes its terminal error."""
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
    """What takes the place of an outcome that can't be published: its terminal error, and the record set aside.

    Of the record it has the name and the beginning, and no headers: it is not refused in turn.
    """
    ended = replace(error_outcome(record, _submitted(outcome), error, attempt=attempt), dead_letter=error)
    events.observe(record, ended)
    return [*_published(ended, source), _letter(_beginning(record), error, attempt)]


def _submitted(outcome: Outcome) -> events_pb2.PromptSubmitted | None:
    """Whose outcome it is. A record's key need not name its prompt, and an assignment's does not."""
    for outgoing in outcome.publish:
        match outgoing.message:
            case events_pb2.PromptCompleted() as ended:
                return events_pb2.PromptSubmitted(request_id=ended.request_id, tenant=ended.tenant)
            case events_pb2.PromptRouted() | events_pb2.PromptAssigned() as onward if onward.prompt.request_id:
                return onward.prompt
    return None


def _published(outcome: Outcome, source: str, parent: Record | None = None) -> list[Message]:
    """`parent`: whose headers they inherit."""
    now_ms = time.time_ns() // 1_000_000
    out = []
    for one in outcome.publish:
        inherited = one.headers if parent is None else carried(parent, one.headers)
        headers = cloud_event(one, source, now_ms, inherited)
        out.append(Message(one.topic, one.key.encode(), encode(one), headers, one.partition))
    return out


def _letter(record: Record, error: CoEError, attempt: int) -> Message:
    """The record as it was; of one that is too large to send on, its beginning."""
    own = ("traceparent", "tracestate")
    headers = [(name, value) for name, value in dead_letter(record, error, attempt + 1) if name not in own]
    letter = Message(topics.DEAD_LETTER, record.key, record.value, headers)
    return letter if letter.nbytes <= _MOST_BYTES else _letter(_beginning(record), error, attempt)


def _beginning(record: Record) -> Record:
    """The headers of a dead letter say where the rest lies."""
    key = None if record.key is None else record.key[:_BEGINNING_BYTES]
    return record._replace(key=key, value=record.value[:_BEGINNING_BYTES], headers=())
