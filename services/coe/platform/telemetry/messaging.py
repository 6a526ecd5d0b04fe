"""Spans and metrics of Kafka messages: a CONSUMER span per record being handled, a PRODUCER span per message sent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from coe.platform.bus.api import Record
from coe.platform.telemetry import names, registry, spans, w3c


class _Handling(NamedTuple):
    """A record being handled. The reference keeps its `id()` from being reused."""

    record: Record
    group: str
    span: Span
    started: float


# By `id()` of the record.
_open: dict[int, _Handling] = {}


def start_send(topic: str, key: str, parent: Span | None = None) -> Span:
    """Starts the span of sending a message, a child of `parent` or of the current span. The caller ends it."""
    count_sent(topic)

    def attributes() -> dict[str, AttributeValue]:
        return {
            names.MESSAGING_SYSTEM: "kafka",
            names.MESSAGING_OPERATION: "send",
            names.MESSAGING_OPERATION_TYPE: "send",
            names.MESSAGING_DESTINATION: topic,
            names.MESSAGING_KEY: key,
        }

    context = parent.get_span_context() if parent is not None else spans.current()
    return spans.start(f"send {topic}", SpanKind.PRODUCER, context, attributes)


def trace_headers(span: Span | None = None) -> list[tuple[str, bytes]]:
    """Headers that carry the trace context of `span`, or of the current span."""
    context = span.get_span_context() if span is not None else spans.current()
    return [(name, value.encode()) for name, value in w3c.headers(context)]


def count_sent(topic: str) -> None:
    registry.counter("messaging.client.sent.messages").add(1, _topic(topic))


def start_record(record: Record, group: str) -> Span:
    """Starts the span of handling a record, a child of the span that sent it. `end_record` ends it."""

    def attributes() -> dict[str, AttributeValue]:
        key = {} if record.key is None else {names.MESSAGING_KEY: record.key.decode("utf-8", "replace")}
        return {
            names.MESSAGING_SYSTEM: "kafka",
            names.MESSAGING_OPERATION: "process",
            names.MESSAGING_OPERATION_TYPE: "process",
            names.MESSAGING_DESTINATION: record.topic,
            names.MESSAGING_PARTITION: str(record.partition),
            names.MESSAGING_OFFSET: record.offset,
            names.MESSAGING_GROUP: group,
            **key,
        }

    span = spans.start(f"process {record.topic}", SpanKind.CONSUMER, w3c.parse(record.header), attributes)
    _open[id(record)] = _Handling(record, group, span, time.perf_counter())
    registry.counter("messaging.client.consumed.messages").add(1, _attributes(record.topic, group))
    return span


def record_span(record: Record) -> Span:
    """The span of handling `record`, for adding attributes. A no-op span if the record is not being handled."""
    entry = _open.get(id(record))
    return entry.span if entry is not None else trace.INVALID_SPAN


@contextmanager
def handling(record: Record) -> Iterator[Span]:
    """Makes the record's span current, so that sends, calls and logs in the block belong to it.

    An exception in the block does not mark the span as failed; call `mark_failed` for that.
    """
    with trace.use_span(record_span(record), record_exception=False, set_status_on_exception=False) as span:
        yield span


def mark_failed(record: Record, code: str, message: str) -> None:
    """Marks the record's span as failed with the code of a CoEError."""
    span = record_span(record)
    span.set_attribute(names.ERROR_TYPE, code)
    span.set_status(Status(StatusCode.ERROR, message))


def end_record(record: Record, error_code: str | None = None) -> float:
    """Ends the record's span, if it has one, and returns its duration in seconds.

    `error_code`: set if the record was not completed here.
    """
    entry = _open.get(id(record))
    if entry is None:
        return 0.0
    if error_code is not None:
        mark_failed(record, error_code, "")
    entry.span.end()
    del _open[id(record)]
    return time.perf_counter() - entry.started


def batch_done(topic: str, group: str, seconds: float) -> None:
    """Records the duration of a batch committed together. `seconds`: that of its slowest record."""
    registry.histogram("messaging.process.duration").record(seconds, _attributes(topic, group))


@lru_cache
def _topic(topic: str) -> dict[str, str]:
    return {names.MESSAGING_SYSTEM: "kafka", names.MESSAGING_DESTINATION: topic}


@lru_cache
def _attributes(topic: str, group: str) -> dict[str, str]:
    return {names.MESSAGING_SYSTEM: "kafka", names.MESSAGING_DESTINATION: topic, names.MESSAGING_GROUP: group}
