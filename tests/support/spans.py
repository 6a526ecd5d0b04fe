"""Spans recorded in memory. OpenTelemetry takes one provider a process: it is made once and cleared for each test."""

from collections.abc import Sequence
from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from coe.platform.telemetry import spans


def recorder() -> InMemorySpanExporter:
    """An empty one. What the code under test does from now on is found in it."""
    exporter = _installed()
    exporter.clear()
    spans.record(lambda: True)
    return exporter


@cache
def _installed() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def edges(found: Sequence[ReadableSpan]) -> set[tuple[str, str]]:
    """(name of the parent, name of the span) for every span whose parent is there too."""
    by_id = {span.get_span_context().span_id: span for span in found}
    return {
        (by_id[span.parent.span_id].name, span.name) for span in found if span.parent and span.parent.span_id in by_id
    }
