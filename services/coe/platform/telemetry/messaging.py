"""Spans of Kafka messages. The headers `traceparent` and `tracestate` carry the context, anew on each hop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from coe.platform.bus.api import Record
from coe.platform.telemetry import names
from coe.platform.telemetry.providers import tracer


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
def send_span(topic: str, key: str, context: Context | None = None) -> Iterator[Span]:
    attributes = {
        names.MESSAGING_SYSTEM: "kafka",
        names.MESSAGING_OPERATION: "send",
        names.MESSAGING_OPERATION_TYPE: "send",
        names.MESSAGING_DESTINATION: topic,
        names.MESSAGING_KEY: key,
    }
    with tracer().start_as_current_span(
        f"send {topic}", context=context, kind=SpanKind.PRODUCER, attributes=attributes
    ) as span:
        yield span


def start_process_span(record: Record, group: str) -> Span:
    """The span of handling one record, child of the span that sent it. The caller ends it."""
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
    return tracer().start_span(
        f"process {record.topic}", context=remote_context(record), kind=SpanKind.CONSUMER, attributes=attributes
    )


def fail(span: Span, code: str, message: str = "") -> None:
    span.set_attribute(names.ERROR_TYPE, code)
    span.set_status(Status(StatusCode.ERROR, message))


# Spans of the records that are being handled, by identity of the record: a handler of a batch finds each record's own.
_SPANS = otel_context.create_key("coe-record-spans")


@contextmanager
def batch(records: Sequence[Record], spans: Sequence[Span]) -> Iterator[None]:
    """Makes `record_span` work for these records in the block."""
    known = {id(record): span for record, span in zip(records, spans, strict=True)}
    token = otel_context.attach(otel_context.set_value(_SPANS, known))
    try:
        yield
    finally:
        otel_context.detach(token)


def record_span(record: Record) -> Span:
    """The span of handling `record`, to add attributes to; a span that ignores them outside of handling."""
    known = otel_context.get_value(_SPANS)
    span = known.get(id(record)) if isinstance(known, dict) else None
    return span if span is not None else trace.INVALID_SPAN
