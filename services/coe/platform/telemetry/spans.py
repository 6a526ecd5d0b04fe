"""Starts spans. What is not recorded costs next to nothing: ids travel on, no span is made.

A trace that begins here is recorded when `sample` (see `record`) says so; one that comes from elsewhere keeps the
decision that it came with.
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
    """`sample()` decides on every trace that begins in this process. Until then none begins: the next hop decides."""
    global _sample
    _sample = sample


def start(name: str, kind: SpanKind, parent: SpanContext | None, attributes: Attributes) -> Span:
    """A span below `parent`, or the first of a new trace. `attributes` is called when it is recorded. End it."""
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
    """The context of the current span, invalid when there is none."""
    return trace.get_current_span().get_span_context()
