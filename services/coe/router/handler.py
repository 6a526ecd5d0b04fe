"""Turns each record of coe.prompts.v1 into a routed prompt or one terminal error; duplicates are dropped."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from coe._proto import common_pb2, events_pb2
from coe.platform import deadline, logs, topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import decode
from coe.platform.errors import CoEError
from coe.platform.telemetry import names, registry
from coe.platform.telemetry.messaging import record_span
from coe.platform.terminal import error_outcome, request_id
from coe.platform.tools import NONE
from coe.router.decisions import count
from coe.router.duplicates import Find, nothing
from coe.router.prompt import classified_text, submission_ms, validate

_log = logs.get(__name__)
# Most request ids in one log line.
_NAMED = 10

Classify = Callable[[Sequence[str]], Sequence[common_pb2.RoutingDecision]]


@dataclass(frozen=True, slots=True)
class _Read:
    """A decoded prompt, or the error that decoding raised."""

    record: Record
    content: events_pb2.PromptSubmitted | CoEError

    @property
    def submitted(self) -> events_pb2.PromptSubmitted | None:
        return None if isinstance(self.content, CoEError) else self.content


@dataclass(frozen=True, slots=True)
class _Accepted:
    """`text` is None when the client has already chosen the category or the expert."""

    record: Record
    submitted: events_pb2.PromptSubmitted
    text: str | None


class RouteHandler:
    """A batch handler for `Bus.process` that classifies all prompts of a batch together, in a thread."""

    def __init__(
        self,
        classify: Classify,
        *,
        max_bytes: int,
        now_ms: Callable[[], int],
        duplicates: Find = nothing,
        categories: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """`categories` returns the classifier's categories."""
        self._classify = classify
        self._categories = categories
        self._max_bytes = max_bytes
        self._now_ms = now_ms
        self._duplicates = duplicates

    async def __call__(self, records: Sequence[Record]) -> Sequence[Outcome]:
        read = [_read(record) for record in records]
        again = await self._submitted_before(read)
        items = [_came_again(one) if index in again else self._accept(one) for index, one in enumerate(read)]
        texts = [item.text for item in items if isinstance(item, _Accepted) and item.text is not None]
        started = time.perf_counter()
        decisions = iter(await asyncio.to_thread(self._classify, texts) if texts else [])
        routing_s = time.perf_counter() - started
        known = self._categories()
        outcomes = []
        for item in items:
            if isinstance(item, _Accepted):
                decision = _chosen(item.submitted) if item.text is None else next(decisions)
                count(decision, routing_s, known)
                outcomes.append(_routed(item, decision, 0.0 if item.text is None else routing_s))
            else:
                outcomes.append(item)
        return outcomes

    async def _submitted_before(self, read: Sequence[_Read]) -> set[int]:
        """Indices of the records whose request id belongs to an earlier record, which is answered instead."""
        named = [(index, name) for index, one in enumerate(read) if (name := request_id(one.record, one.submitted))]
        found = await self._duplicates([(name, read[index].record) for index, name in named])
        again = [(index, name) for (index, name), duplicate in zip(named, found, strict=True) if duplicate]
        if again:
            registry.counter("coe.router.duplicates").add(len(again))
            _log.info(
                "dropped prompts that were submitted twice",
                prompts=len(again),
                request_ids=[name for _, name in again[:_NAMED]],
            )
        return {index for index, _ in again}

    def _accept(self, read: _Read) -> _Accepted | Outcome:
        record, submitted = read.record, read.content
        if isinstance(submitted, CoEError):
            return error_outcome(record, None, submitted)
        try:
            validate(submitted, max_bytes=self._max_bytes)
            until = deadline.deadline_ms(record, submitted)
            deadline.check(until, self._now_ms())
        except CoEError as error:
            return error_outcome(record, submitted, error)
        # Producers may omit both; everything downstream of the router can rely on them.
        submitted.submitted_at_ms = submission_ms(submitted.submitted_at_ms, record.timestamp_ms, self._now_ms())
        submitted.deadline_ms = until or 0
        decided = submitted.expert_id or submitted.category
        return _Accepted(record, submitted, None if decided else _text(submitted))


def _text(submitted: events_pb2.PromptSubmitted) -> str:
    tools = () if submitted.tool_choice == NONE else submitted.tools
    return classified_text(submitted.prompt, submitted.messages, tools)


def _read(record: Record) -> _Read:
    try:
        return _Read(record, decode(record, events_pb2.PromptSubmitted))
    except CoEError as error:
        return _Read(record, error)


def _came_again(read: _Read) -> Outcome:
    """Drops a duplicate without publishing anything.

    A record that can't be decoded was matched by its key, which need not be a request id: it is dead-lettered.
    """
    return Outcome(dead_letter=read.content if isinstance(read.content, CoEError) else None)


def _chosen(submitted: events_pb2.PromptSubmitted) -> common_pb2.RoutingDecision:
    """The decision for a prompt whose client named the category or the expert (the category may then be empty)."""
    confidence = 1.0 if submitted.category else 0.0
    return common_pb2.RoutingDecision(category=submitted.category, confidence=confidence)


def _routed(item: _Accepted, decision: common_pb2.RoutingDecision, routing_s: float) -> Outcome:
    span = record_span(item.record)
    span.set_attribute(names.COE_CATEGORY, decision.category)
    span.set_attribute(names.COE_CONFIDENCE, decision.confidence)
    span.set_attribute(names.COE_FALLBACK, decision.fallback_reason)
    message = events_pb2.PromptRouted(prompt=item.submitted, routing=decision, routing_s=routing_s)
    return Outcome(publish=(Outgoing(topics.ROUTED, item.submitted.request_id, message),))
