"""Starts spans. Traces that are not recorded cost next to nothing: their ids are propagated, but no span is created.

For a trace that begins here, `sample` (see `record`) decides; one that began elsewhere keeps its sampling decision.
"""

import random
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

Attributes = Callable[[], dict[str, AttributeValue]]

_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_sample: Callable[[], bool] | None = None
_tracer = trace.get_tracer("coe")


def record(sample: Callable[[], bool]) -> None:
    """Makes `sample()` decide whether to record each trace that begins in this process.

    Until this is called no traces begin here, and the decision is left to the next hop.
    """
    global _sample
    _sample = sample


def start(name: str, kind: SpanKind, parent: SpanContext | None, attributes: Attributes) -> Span:
    """Starts a child span of `parent`, or the first of a new trace. The caller must end it.

    `attributes` is called only if the span is recorded.
    """
    if parent is not None and parent.is_valid:
        if not parent.trace_flags.sampled:
            return NonRecordingSpan(parent)
        context = trace.set_span_in_context(NonRecordingSpan(parent), Context())
    elif _sample is None:
        return trace.INVALID_SPAN
    elif _sample():
        context = Context()
    else:
        ids = SpanContext(random.getrandbits(128), random.getrandbits(64), is_remote=False, trace_flags=_UNSAMPLED)
        return NonRecordingSpan(ids)
    return _tracer.start_span(name, context=context, kind=kind, attributes=attributes())


def current() -> SpanContext:
    """The context of the current span; an invalid one if there is none."""
    return trace.get_current_span().get_span_context()
