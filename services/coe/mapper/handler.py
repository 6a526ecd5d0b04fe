"""Turns each record of coe.routed.v1 into an assigned prompt or one terminal error."""

import asyncio
import time
from collections.abc import Callable, Sequence

from coe._proto import common_pb2, events_pb2
from coe.mapper import policy
from coe.mapper.mapping import Mapping
from coe.mapper.parts import part_of
from coe.mapper.replicas import Choice, in_share
from coe.mapper.settings import MapperSettings
from coe.mapper.state import Solved, State
from coe.mapper.tenants import budget_of
from coe.platform import deadline, logs, topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import decode
from coe.platform.errors import CoEError
from coe.platform.telemetry import names
from coe.platform.telemetry.messaging import record_span
from coe.platform.terminal import error_outcome

_log = logs.get(__name__)
# Picks the replica of an expert for a conversation id or, without one, a request id.
Choose = Callable[[str, str], Choice]
# A prompt's part under the current mapping and, if there is one, under the candidate.
Parts = tuple[str, ...]


class MapHandler:
    """A batch handler for `Bus.process`."""

    def __init__(
        self, state: Callable[[], State], choose: Choose, settings: MapperSettings, *, now_ms: Callable[[], int]
    ) -> None:
        self._state = state
        self._choose = choose
        self._settings = settings
        self._now_ms = now_ms

    async def __call__(self, records: Sequence[Record]) -> Sequence[Outcome]:
        state = self._state()
        started = time.perf_counter()
        items = [self._accept(record) for record in records]
        routed = [item for item in items if isinstance(item, events_pb2.PromptRouted)]
        assigned = iter(await asyncio.to_thread(self._assign_all, state, routed))
        deciding_s = time.perf_counter() - started
        return [
            self._handle(record, item, next(assigned), deciding_s)
            if isinstance(item, events_pb2.PromptRouted)
            else item
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

    def _assign_all(
        self, state: State, routed: Sequence[events_pb2.PromptRouted]
    ) -> list[common_pb2.Assignment | CoEError]:
        """Runs off the event loop, because finding parts and solving for a new budget take a while."""
        found: list[common_pb2.Assignment | CoEError] = []
        for item, parts in zip(routed, _parts(state, routed), strict=True):
            try:
                found.append(self._assign(item, state, parts))
            except CoEError as error:
                found.append(error)
        return found

    def _handle(
        self,
        record: Record,
        routed: events_pb2.PromptRouted,
        assignment: common_pb2.Assignment | CoEError,
        deciding_s: float,
    ) -> Outcome:
        started = time.perf_counter()
        if isinstance(assignment, CoEError):
            return _failed(record, routed, assignment)
        choice = self._choose(assignment.expert_id, routed.prompt.conversation_id or routed.prompt.request_id)
        assignment.replica = choice.replica
        record_span(record).set_attribute(names.COE_EXPERT, assignment.expert_id)
        message = events_pb2.PromptAssigned(
            prompt=routed.prompt,
            routing=routed.routing,
            assignment=assignment,
            routing_s=routed.routing_s,
            mapping_s=deciding_s + time.perf_counter() - started,
        )
        key = f"{assignment.expert_id}#{assignment.replica}"
        return Outcome(publish=(Outgoing(topics.ASSIGNMENTS, key, message, partition=choice.partition),))

    def _assign(self, routed: events_pb2.PromptRouted, state: State, parts: Parts) -> common_pb2.Assignment:
        prompt, routing = routed.prompt, routed.routing
        budget = budget_of(prompt.budget, prompt.tenant, state.budgets)
        mapping, routing.subcategory = state.mapping, parts[0]
        if state.candidate is not None and not prompt.expert_id:
            options = [
                (solved.mapping, part) for solved, part in zip((state.solved, state.candidate), parts, strict=True)
            ]
            mapping, routing.subcategory = self._on_trial(routed, budget, state.hosted, options)
        return resolve(mapping, state.hosted, prompt.expert_id, routing.category, routing.subcategory, budget)

    def _on_trial(
        self,
        routed: events_pb2.PromptRouted,
        budget: common_pb2.Budget,
        hosted: policy.Hosted,
        options: Sequence[tuple[Mapping, str]],
    ) -> tuple[Mapping, str]:
        """The mapping and part to use for this prompt. Logs it if the candidate would choose another expert.

        `options` are the current mapping and the candidate, each with the part that its own refiner found.
        """
        prompt, routing = routed.prompt, routed.routing
        try:
            ours, theirs = (
                resolve(mapping, hosted, "", routing.category, part, budget).mapped_expert for mapping, part in options
            )
        except CoEError:
            # A budget or pool that only one of them has: the current mapping decides, or raises the error.
            return options[0]
        canary = in_share(prompt.request_id, self._settings.canary_share)
        if ours != theirs:
            _log.info(
                "mapping on trial",
                request_id=prompt.request_id,
                category=routing.category,
                version=options[0][0].version,
                expert=ours,
                candidate_version=options[1][0].version,
                candidate_expert=theirs,
                canary=canary,
            )
        return options[1 if canary else 0]


def _parts(state: State, routed: Sequence[events_pb2.PromptRouted]) -> list[Parts]:
    solved: list[Solved] = [state.solved] + ([state.candidate] if state.candidate is not None else [])
    return [tuple(part_of(each.refiner, item) for each in solved) for item in routed]


def _failed(record: Record, routed: events_pb2.PromptRouted | None, error: CoEError) -> Outcome:
    record_span(record).set_attribute(names.ERROR_TYPE, error.code)
    prompt, routing = (routed.prompt, routed.routing) if routed is not None else (None, None)
    return error_outcome(record, prompt, error, routing=routing)


def resolve(
    mapping: Mapping, hosted: policy.Hosted, expert_id: str, category: str, part: str, budget: common_pb2.Budget
) -> common_pb2.Assignment:
    """The assignment as the events carry it, without the replica. Raises ExpertNotFound or InvalidPrompt."""
    if expert_id:
        choice = policy.requested(expert_id, hosted)
    else:
        choice = policy.mapped(mapping, category, part, policy.plan_of(mapping, budget), hosted)
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
            for candidate in choice.candidates
        ],
    )
