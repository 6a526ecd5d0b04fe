"""Chooses the expert that answers a prompt and records why. Pure."""

from collections.abc import Mapping as Lookup
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from coe._proto import common_pb2
from coe.mapper.mapping import DEFAULT_BUDGET, Cell, Mapping, Plan
from coe.platform.errors import ExpertNotFound, InvalidPrompt

# Best-ranked experts listed as candidates; the chosen one is added if it is not among them.
MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert of the mapping with its expected quality in the cell."""

    mapped: str
    quality: float
    active_params_b: float


@dataclass(frozen=True, slots=True)
class Choice:
    """`reason` is "category" (the mapping's expert), "default" (it is not hosted, another answers) or "requested".

    `candidates` are the best experts of the cell, best first, and the chosen one.
    """

    expert_id: str
    mapped: str
    reason: str
    budget: str
    cell: str
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Hosted:
    """The bundles hosted on this cluster, and the bundle bound to each mapped expert."""

    ids: AbstractSet[str]
    bindings: Lookup[str, str]

    def bundle(self, mapped: str) -> str:
        """The hosted bundle that answers for a mapped expert; empty if there is none."""
        bound = self.bindings.get(mapped, mapped)
        return bound if bound in self.ids else ""


def requested(expert_id: str, hosted: Hosted) -> Choice:
    """The expert named by the client: a hosted bundle, or a mapped expert that has one. Raises ExpertNotFound."""
    bundle = expert_id if expert_id in hosted.ids else hosted.bundle(expert_id)
    if not bundle:
        raise ExpertNotFound(f"expert {expert_id!r} is not hosted here", expert_id=expert_id)
    return Choice(bundle, expert_id, "requested", "", "")


def plan_of(mapping: Mapping, budget: common_pb2.Budget) -> tuple[str, Plan]:
    """`plan_for` for a budget message."""
    number = budget.active_params_b if budget.WhichOneof("kind") == "active_params_b" else None
    return plan_for(mapping, budget.name, number)


def plan_for(mapping: Mapping, name: str, active_params_b: float | None) -> tuple[str, Plan]:
    """The plan for a named budget, or for a limit on average active parameters in billions. Raises InvalidPrompt."""
    if active_params_b is not None:
        if not 0 < active_params_b < float("inf"):
            raise InvalidPrompt(f"a budget must be a positive number of billions, not {active_params_b}")
        return f"{active_params_b:g}B", mapping.plan_within(_limit(mapping, active_params_b))
    name = name or DEFAULT_BUDGET
    if name not in mapping.budgets:
        raise InvalidPrompt(f"unknown budget {name!r}: use {', '.join(mapping.budgets)} or a number", budget=name)
    return name, mapping.budgets[name]


def _limit(mapping: Mapping, active_params_b: float) -> float:
    """Rounds a limit down and caps it at the largest expert, so that few different plans are solved and cached.

    The result is never below the size of the largest expert within the limit. 0: no expert is within it.
    """
    within = [expert.active_params_b for expert in mapping.pool if expert.active_params_b <= active_params_b]
    if not within:
        return 0.0
    most = min(active_params_b, max(expert.active_params_b for expert in mapping.pool))
    steps = 10 if most >= 1 else 1000
    return max(*within, int(most * steps) / steps)


def mapped(mapping: Mapping, category: str, part: str, budget: tuple[str, Plan], hosted: Hosted) -> Choice:
    """The mapping's expert or, if it is not hosted, the best hosted one that is no larger (else the smallest).

    Raises ExpertNotFound when nothing is hosted at all.
    """
    name, plan = budget
    cell = mapping.cell(category, part)
    wanted = plan.experts[cell.name]
    bundle, expert, reason = hosted.bundle(wanted), wanted, "category"
    if not bundle:
        (bundle, expert), reason = _instead(mapping, cell, wanted, hosted), "default"
    return Choice(bundle, expert, reason, name, cell.name, _candidates(mapping, cell, expert))


def _instead(mapping: Mapping, cell: Cell, wanted: str, hosted: Hosted) -> tuple[str, str]:
    """The bundle that answers instead, and the mapped expert it answers for.

    If no bundle answers for an expert of the mapping, the first bundle by id stands for itself.
    """
    available = [expert for expert, _ in mapping.ranked[cell.name] if hosted.bundle(expert.name)]
    if available:
        limit = next(expert.active_params_b for expert in mapping.pool if expert.name == wanted)
        affordable = [expert for expert in available if expert.active_params_b <= limit]
        best = affordable[0] if affordable else min(available, key=lambda expert: expert.active_params_b)
        return hosted.bundle(best.name), best.name
    if hosted.ids:
        return min(hosted.ids), min(hosted.ids)
    raise ExpertNotFound("no experts are hosted here: import one with `coe import`", mapped_expert=wanted)


def _candidates(mapping: Mapping, cell: Cell, chosen: str) -> tuple[Candidate, ...]:
    ranked = mapping.ranked[cell.name]
    named = list(ranked[:MOST_CANDIDATES])
    named += [pair for pair in ranked[MOST_CANDIDATES:] if pair[0].name == chosen]
    return tuple(Candidate(expert.name, quality, expert.active_params_b) for expert, quality in named)
