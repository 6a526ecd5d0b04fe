"""Which expert answers a prompt, and why. Pure."""

from collections.abc import Mapping as Lookup
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from coe._proto import common_pb2
from coe.mapper.mapping import DEFAULT_BUDGET, Cell, Mapping, Plan
from coe.platform.errors import ExpertNotFound, InvalidPrompt

# Experts that are named as candidates, beside the chosen one.
MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert of the mapping, and what is expected of it."""

    mapped: str
    quality: float
    active_params_b: float


@dataclass(frozen=True, slots=True)
class Choice:
    """`reason`: "category" (the mapping's expert), "default" (it is not hosted, another answers) or "requested".

    `candidates`: the best of the cell, best first, and the chosen one.
    """

    expert_id: str
    mapped: str
    reason: str
    budget: str
    cell: str
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Hosted:
    """The bundles on this cluster, and which stands in for which mapped expert."""

    ids: AbstractSet[str]
    bindings: Lookup[str, str]

    def bundle(self, mapped: str) -> str:
        """The hosted bundle of a mapped expert; empty when there is none."""
        bound = self.bindings.get(mapped, mapped)
        return bound if bound in self.ids else ""


def requested(expert_id: str, hosted: Hosted) -> Choice:
    """The expert that the client named: a hosted bundle, or a mapped expert with one. Raises ExpertNotFound."""
    bundle = expert_id if expert_id in hosted.ids else hosted.bundle(expert_id)
    if not bundle:
        raise ExpertNotFound(f"expert {expert_id!r} is not hosted here", expert_id=expert_id)
    return Choice(bundle, expert_id, "requested", "", "")


def plan_of(mapping: Mapping, budget: common_pb2.Budget) -> tuple[str, Plan]:
    """As `plan_for`."""
    number = budget.active_params_b if budget.WhichOneof("kind") == "active_params_b" else None
    return plan_for(mapping, budget.name, number)


def plan_for(mapping: Mapping, name: str, active_params_b: float | None) -> tuple[str, Plan]:
    """The plan of a named budget, or of a limit on average active parameters in billions. Raises InvalidPrompt."""
    if active_params_b is not None:
        if not 0 < active_params_b < float("inf"):
            raise InvalidPrompt(f"a budget must be a positive number of billions, not {active_params_b}")
        return f"{active_params_b:g}B", mapping.plan_within(_limit(mapping, active_params_b))
    name = name or DEFAULT_BUDGET
    if name not in mapping.budgets:
        raise InvalidPrompt(f"unknown budget {name!r}: use {', '.join(mapping.budgets)} or a number", budget=name)
    return name, mapping.budgets[name]


def _limit(mapping: Mapping, active_params_b: float) -> float:
    """Rounded down and within what the pool has, so that the plans to solve and to keep are few and the limit holds.

    Never below an expert's size that it reaches.
    """
    within = [expert.active_params_b for expert in mapping.pool if expert.active_params_b <= active_params_b]
    if not within:
        return 0.0
    most = min(active_params_b, max(expert.active_params_b for expert in mapping.pool))
    steps = 10 if most >= 1 else 1000
    return max(*within, int(most * steps) / steps)


def mapped(mapping: Mapping, category: str, part: str, budget: tuple[str, Plan], hosted: Hosted) -> Choice:
    """The mapping's expert, or when it is not hosted, the best hosted one that is no larger (else the smallest).

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
    """The bundle and the expert of the mapping that it stands for; any bundle when none stands for one."""
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
