"""Spans of Kafka messages. The headers `traceparent` and `tracestate` carry the context, anew on each hop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from coe.platform.bus.api import Record
from coe.platform.telemetry import names, registry
from coe.platform.telemetry.providers import tracer


@dataclass(frozen=True, slots=True)
class _Handling:
    """A record in hand. It is kept so that its id stays its own."""

    record: Record
    group: str
    span: Span
    started: float


# By identity of the record.
_open: dict[int, _Handling] = {}


def trace_headers(context: Context | None = None) -> list[tuple[str, bytes]]:
    """Headers that carry the current (or given) trace context."""
    carrier: dict[str, str] = {}
    inject(carrier, context=context)
    return [(name, value.encode()) for name, value in carrier.items()]


def remote_context(record: Record) -> Context:
    """The trace context that the record's producer sent."""
    carrier = {name: value for name in ("traceparent", "tracestate") if (value := record.header(name))}
    return extract(carrier)


@contextmanager
def send_span(topic: str, key: str, parent: Span | None = None) -> Iterator[Span]:
    """Around handing one message to the broker. Child of `parent`, else of the current span."""
    attributes = {
        names.MESSAGING_SYSTEM: "kafka",
        names.MESSAGING_OPERATION: "send",
        names.MESSAGING_OPERATION_TYPE: "send",
        names.MESSAGING_DESTINATION: topic,
        names.MESSAGING_KEY: key,
    }
    count_sent(topic)
    context = trace.set_span_in_context(parent) if parent is not None else None
    with tracer().start_as_current_span(
        f"send {topic}", context=context, kind=SpanKind.PRODUCER, attributes=attributes
    ) as span:
        yield span


def count_sent(topic: str) -> None:
    registry.counter("messaging.client.sent.messages").add(
        1, {names.MESSAGING_SYSTEM: "kafka", names.MESSAGING_DESTINATION: topic}
    )


def start_record(record: Record, group: str) -> Span:
    """Starts the span of handling one record, child of the span that sent it. `end_record` ends it."""
    attributes: dict[str, str | int] = {
        names.MESSAGING_SYSTEM: "kafka",
        names.MESSAGING_OPERATION: "process",
        names.MESSAGING_OPERATION_TYPE: "process",
        names.MESSAGING_DESTINATION: record.topic,
        names.MESSAGING_PARTITION: str(record.partition),
        names.MESSAGING_OFFSET: record.offset,
        names.MESSAGING_GROUP: group,
    }
    if record.key is not None:
        attributes[names.MESSAGING_KEY] = record.key.decode("utf-8", "replace")
    span = tracer().start_span(
        f"process {record.topic}", context=remote_context(record), kind=SpanKind.CONSUMER, attributes=attributes
    )
    _open[id(record)] = _Handling(record, group, span, time.perf_counter())
    registry.counter("messaging.client.consumed.messages").add(1, _attributes(record.topic, group))
    return span


def record_span(record: Record) -> Span:
    """The span of handling `record`, to add attributes to. One that ignores them when the record is not in hand."""
    entry = _open.get(id(record))
    return entry.span if entry is not None else trace.INVALID_SPAN


@contextmanager
def handling(record: Record) -> Iterator[Span]:
    """Makes the record's span the current one: what is sent, called and logged in the block belongs to it."""
    with trace.use_span(record_span(record), end_on_exit=False, record_exception=False) as span:
        yield span


def mark_failed(record: Record, code: str, message: str) -> None:
    """The record's handling ends with an error of the tree."""
    span = record_span(record)
    span.set_attribute(names.ERROR_TYPE, code)
    span.set_status(Status(StatusCode.ERROR, message))


def end_record(record: Record, error_code: str | None = None) -> None:
    """Ends the record's span, if it has one. `error_code`: it was not handled here to its end."""
    entry = _open.get(id(record))
    if entry is None:
        return
    attributes = _attributes(record.topic, entry.group)
    if error_code is not None:
        mark_failed(record, error_code, "")
        attributes[names.ERROR_TYPE] = error_code
    entry.span.end()
    del _open[id(record)]
    registry.histogram("messaging.process.duration").record(time.perf_counter() - entry.started, attributes)


def _attributes(topic: str, group: str) -> dict[str, str]:
    return {names.MESSAGING_SYSTEM: "kafka", names.MESSAGING_DESTINATION: topic, names.MESSAGING_GROUP: group}
