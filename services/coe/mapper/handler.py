"""What becomes of each record of coe.routed.v1: an assigned prompt, or one terminal error."""

import asyncio
import time
from collections.abc import Callable, Sequence

from coe._proto import common_pb2, events_pb2
from coe.mapper import policy
from coe.mapper.mapping import Mapping
from coe.mapper.parts import PartFinder, asked_text
from coe.mapper.replicas import in_share, pick_replica, replica_count
from coe.mapper.settings import MapperSettings
from coe.mapper.state import State
from coe.platform import deadline, logs, topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import decode
from coe.platform.errors import CoEError
from coe.platform.telemetry import names
from coe.platform.telemetry.messaging import record_span
from coe.platform.terminal import error_outcome

_log = logs.get(__name__)
# Prompts that wait for an expert, over the whole cluster, as far as is known.
Queued = Callable[[str], int]


class MapHandler:
    """A batch handler for `Bus.process`."""

    def __init__(
        self, state: Callable[[], State], queued: Queued, settings: MapperSettings, *, now_ms: Callable[[], int]
    ) -> None:
        self._state = state
        self._queued = queued
        self._settings = settings
        self._now_ms = now_ms

    async def __call__(self, records: Sequence[Record]) -> Sequence[Outcome]:
        state = self._state()
        started = time.perf_counter()
        items = [self._accept(record) for record in records]
        routed = [item for item in items if isinstance(item, events_pb2.PromptRouted)]
        if state.parts is not None:
            await _add_parts(state.parts, routed)
        finding_s = time.perf_counter() - started
        return [
            self._handle(record, item, state, finding_s) if isinstance(item, events_pb2.PromptRouted) else item
            for record, item in zip(records, items, strict=True)
        ]

    def _accept(self, record: Record) -> events_pb2.PromptRouted | Outcome:
        routed = None
        try:
            routed = decode(record, events_pb2.PromptRouted)
            deadline.check(deadline.deadline_ms(record, routed.prompt), self._now_ms())
        except CoEError as error:
            return _failed(record, routed, error)
        return routed

    def _handle(self, record: Record, routed: events_pb2.PromptRouted, state: State, finding_s: float) -> Outcome:
        started = time.perf_counter()
        try:
            assignment = self._assign(routed, state)
        except CoEError as error:
            return _failed(record, routed, error)
        record_span(record).set_attribute(names.COE_EXPERT, assignment.expert_id)
        message = events_pb2.PromptAssigned(
            prompt=routed.prompt,
            routing=routed.routing,
            assignment=assignment,
            routing_s=routed.routing_s,
            mapping_s=finding_s + time.perf_counter() - started,
        )
        key = f"{assignment.expert_id}#{assignment.replica}"
        return Outcome(publish=(Outgoing(topics.ASSIGNMENTS, key, message),))

    def _assign(self, routed: events_pb2.PromptRouted, state: State) -> common_pb2.Assignment:
        prompt = routed.prompt
        mapping = state.mapping
        if state.candidate is not None and not prompt.expert_id:
            mapping = self._on_trial(routed, state, state.candidate)
        assignment = resolve(
            mapping, state.hosted, prompt.expert_id, routed.routing.category, routed.routing.subcategory, prompt.budget
        )
        count = replica_count(
            self._queued(assignment.expert_id),
            per_replica=self._settings.queued_per_replica,
            most=self._settings.max_replicas,
        )
        assignment.replica = pick_replica(prompt.conversation_id or prompt.request_id, count)
        return assignment

    def _on_trial(self, routed: events_pb2.PromptRouted, state: State, candidate: Mapping) -> Mapping:
        """The mapping for this prompt, after the log of what the candidate would have done with it."""
        prompt, routing = routed.prompt, routed.routing
        try:
            ours, theirs = (
                resolve(mapping, state.hosted, "", routing.category, routing.subcategory, prompt.budget).mapped_expert
                for mapping in (state.mapping, candidate)
            )
        except CoEError:
            # A budget or pool that only one of them has: the mapping in force answers, or says what is wrong.
            return state.mapping
        canary = in_share(prompt.request_id, self._settings.canary_share)
        _log.info(
            "mapping on trial",
            request_id=prompt.request_id,
            category=routing.category,
            version=state.mapping.version,
            expert=ours,
            candidate_version=candidate.version,
            candidate_expert=theirs,
            canary=canary,
        )
        return candidate if canary else state.mapping


async def _add_parts(finder: PartFinder, routed: Sequence[events_pb2.PromptRouted]) -> None:
    """Fills in the sub-category of prompts that go by the mapping, unless the router knows one. In a thread."""
    wanting = [item for item in routed if not item.prompt.expert_id and not item.routing.subcategory]
    if not wanting:
        return
    texts = [asked_text(item.prompt.prompt, item.prompt.messages) for item in wanting]
    parts = await asyncio.to_thread(finder.find, [item.routing.category for item in wanting], texts)
    for item, part in zip(wanting, parts, strict=True):
        item.routing.subcategory = part


def _failed(record: Record, routed: events_pb2.PromptRouted | None, error: CoEError) -> Outcome:
    record_span(record).set_attribute(names.ERROR_TYPE, error.code)
    prompt, routing = (routed.prompt, routed.routing) if routed is not None else (None, None)
    return error_outcome(record, prompt, error, routing=routing)


def resolve(
    mapping: Mapping, hosted: policy.Hosted, expert_id: str, category: str, part: str, budget: common_pb2.Budget
) -> common_pb2.Assignment:
    """The assignment as the events carry it, replica apart. Raises ExpertNotFound or InvalidPrompt."""
    if expert_id:
        choice = policy.requested(expert_id, hosted)
    else:
        number = budget.active_params_b if budget.WhichOneof("kind") == "active_params_b" else None
        choice = policy.mapped(mapping, category, part, policy.plan_for(mapping, budget.name, number), hosted)
    return common_pb2.Assignment(
        expert_id=choice.expert_id,
        mapped_expert=choice.mapped,
        mapping_version=mapping.version,
        reason=choice.reason,
        budget=choice.budget,
        candidates=[
            common_pb2.ExpertScore(
                expert_id=candidate.mapped,
                expected_quality=candidate.quality,
                active_params_b=candidate.active_params_b,
            )
            for candidate in choice.candidates[: policy.MOST_CANDIDATES]
        ],
    )
