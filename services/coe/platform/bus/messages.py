"""The bytes that an outcome becomes: its messages and dead letters."""

import time
from dataclasses import dataclass

from coe.platform import topics
from coe.platform.bus.api import Outcome, Record
from coe.platform.bus.codec import encode
from coe.platform.bus.headers import Headers, carried, cloud_event, dead_letter
from coe.platform.errors import CoEError, InternalError
from coe.platform.telemetry import events
from coe.platform.terminal import error_outcome

# Most bytes of one message, its headers included. Topics are made with the same limit.
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
# Room for the trace context and the record's own framing.
_MOST_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
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
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value) + headers


def messages(record: Record, outcome: Outcome, source: str, attempt: int) -> list[Message]:
    """What to publish for one record. An outcome that no topic would take becomes its terminal error."""
    now_ms = time.time_ns() // 1_000_000
    out = [
        Message(
            one.topic,
            one.key.encode(),
            encode(one),
            cloud_event(one, source, now_ms, carried(record, one.headers)),
            one.partition,
        )
        for one in outcome.publish
    ]
    large = next((message for message in out if message.nbytes > _MOST_BYTES), None)
    if large is not None:
        error = InternalError(f"the result has {large.nbytes} bytes, more than a message may have")
        return messages(record, error_outcome(record, None, error), source, attempt)
    events.observe(record, outcome)
    if outcome.dead_letter is not None:
        out.append(_letter(record, outcome.dead_letter, attempt))
    return out


def _letter(record: Record, error: CoEError, attempt: int) -> Message:
    """The record as it was; of one that is too large to send on, its beginning: the headers say where the rest lies."""
    own = ("traceparent", "tracestate")
    headers = [(name, value) for name, value in dead_letter(record, error, attempt + 1) if name not in own]
    letter = Message(topics.DEAD_LETTER, record.key, record.value, headers)
    if letter.nbytes <= _MOST_BYTES:
        return letter
    key = None if record.key is None else record.key[:_BEGINNING_BYTES]
    return _letter(record._replace(key=key, value=record.value[:_BEGINNING_BYTES], headers=()), error, attempt)
