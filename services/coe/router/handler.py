"""What becomes of each record of coe.prompts.v1: a routed prompt, or one terminal error."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coe._proto import common_pb2, events_pb2
from coe.platform import deadline, topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import decode
from coe.platform.errors import CoEError
from coe.platform.telemetry import names
from coe.platform.telemetry.messaging import record_span
from coe.platform.terminal import error_outcome
from coe.router.prompt import classified_text, validate

Classify = Callable[[Sequence[str]], Sequence[common_pb2.RoutingDecision]]


@dataclass(frozen=True, slots=True)
class _Accepted:
    """`text` is None when the client already said where the prompt goes."""

    record: Record
    submitted: events_pb2.PromptSubmitted
    text: str | None


class RouteHandler:
    """A batch handler for `Bus.process`: all prompts of a batch are classified together, in a thread."""

    def __init__(self, classify: Classify, *, max_bytes: int, now_ms: Callable[[], int]) -> None:
        self._classify = classify
        self._max_bytes = max_bytes
        self._now_ms = now_ms

    async def __call__(self, records: Sequence[Record]) -> Sequence[Outcome]:
        items = [self._accept(record) for record in records]
        texts = [item.text for item in items if isinstance(item, _Accepted) and item.text is not None]
        started = time.perf_counter()
        decisions = iter(await asyncio.to_thread(self._classify, texts) if texts else [])
        routing_s = time.perf_counter() - started
        outcomes = []
        for item in items:
            if isinstance(item, _Accepted):
                decision = _chosen(item.submitted) if item.text is None else next(decisions)
                outcomes.append(_routed(item, decision, 0.0 if item.text is None else routing_s))
            else:
                outcomes.append(item)
        return outcomes

    def _accept(self, record: Record) -> _Accepted | Outcome:
        submitted = None
        try:
            submitted = decode(record, events_pb2.PromptSubmitted)
            validate(submitted, max_bytes=self._max_bytes)
            until = deadline.deadline_ms(record, submitted)
            deadline.check(until, self._now_ms())
        except CoEError as error:
            return error_outcome(record, submitted, error)
        # Producers may leave out both; everything after the router can rely on them.
        submitted.submitted_at_ms = submitted.submitted_at_ms or record.timestamp_ms
        submitted.deadline_ms = until or 0
        decided = submitted.expert_id or submitted.category
        return _Accepted(record, submitted, None if decided else classified_text(submitted.prompt, submitted.messages))


def _chosen(submitted: events_pb2.PromptSubmitted) -> common_pb2.RoutingDecision:
    """The client named the category, or the expert (then the category stays empty)."""
    confidence = 1.0 if submitted.category else 0.0
    return common_pb2.RoutingDecision(category=submitted.category, confidence=confidence)


def _routed(item: _Accepted, decision: common_pb2.RoutingDecision, routing_s: float) -> Outcome:
    span = record_span(item.record)
    span.set_attribute(names.COE_CATEGORY, decision.category)
    span.set_attribute(names.COE_CONFIDENCE, decision.confidence)
    span.set_attribute(names.COE_FALLBACK, decision.fallback_reason)
    message = events_pb2.PromptRouted(prompt=item.submitted, routing=decision, routing_s=routing_s)
    return Outcome(publish=(Outgoing(topics.ROUTED, item.submitted.request_id, message),))
