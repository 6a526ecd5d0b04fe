"""A solved mapping: what is known of each expert in each cell, and the expert that each budget gives a cell. Pure.

A cell is a category (`math`) or a part of one (`math/grade-school`). Categories and parts are solved apart, each with
traffic shares that sum to 1, so that a budget holds whether or not the part of a prompt is known.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from coe.mapper.pool import PoolExpert
from coe.mapper.solve import Limits, Solution, solve
from coe.mapper.table import eligible_pairs
from coe.platform.errors import ArtifactError, InvalidPrompt

# Whoever asks for no budget gets this one.
DEFAULT_BUDGET = "quality"
# The category of uncertain prompts, which may be about anything.
FALLBACK = "general"
# Solutions for budgets given as a number that are kept.
CACHED_PLANS = 2048


@dataclass(frozen=True, slots=True)
class Cell:
    """`quality` and `support` have one entry for each expert of the pool; `share` is the cell's part of the traffic.

    `pooled`: there are no outcomes of this cell, its qualities are over all outcomes.
    """

    name: str
    quality: tuple[float, ...]
    support: tuple[int, ...]
    share: float
    pooled: bool = False

    @property
    def is_part(self) -> bool:
        return "/" in self.name


@dataclass(frozen=True, slots=True)
class Plan:
    """An expert for every cell. The expected figures are over the shares of the finest cells."""

    limits: Limits
    experts: dict[str, str]
    quality: float
    active_params_b: float
    hosted_params_b: float


@dataclass(frozen=True)
class Mapping:
    version: str
    pool: tuple[PoolExpert, ...]
    cells: tuple[Cell, ...]
    min_support: int
    budgets: dict[str, Plan] = field(default_factory=dict)
    # SHA-256 of the refiner file that finds the parts of a prompt's category; empty: parts are the router's.
    refiner: str = ""

    def __post_init__(self) -> None:
        names = {expert.name for expert in self.pool}
        cells = {cell.name for cell in self.cells}
        if len(names) < len(self.pool) or len(cells) < len(self.cells):
            raise ArtifactError("The mapping names an expert or a category twice", version=self.version)
        if not any(cell.share > 0 for cell in self.cells):
            raise ArtifactError("The mapping has no category with outcomes", version=self.version)
        if FALLBACK not in cells:
            raise ArtifactError(f"The mapping has no category {FALLBACK!r}", version=self.version)
        for name, plan in self.budgets.items():
            if set(plan.experts) != cells or not set(plan.experts.values()) <= names:
                raise ArtifactError(
                    f"Budget {name!r} must give each category an expert of the pool", version=self.version, budget=name
                )

    def cell(self, category: str, part: str = "") -> Cell:
        """The finest cell known: the part, else its category, else the fallback. A part may carry its category."""
        known = {cell.name: cell for cell in self.cells}
        for name in (part if part.startswith(f"{category}/") else f"{category}/{part}", category):
            if name in known:
                return known[name]
        return known[FALLBACK]

    @cached_property
    def ranked(self) -> dict[str, tuple[tuple[PoolExpert, float], ...]]:
        """Of each cell the pool with its expected qualities there, best first; of equals the smaller."""
        return {
            cell.name: tuple(
                sorted(zip(self.pool, cell.quality, strict=True), key=lambda pair: (-pair[1], pair[0].active_params_b))
            )
            for cell in self.cells
        }

    def plan(self, limits: Limits, among: frozenset[str] | None = None) -> Plan:
        """Solves the mapping under other limits, with no experts but those `among`.

        Raises InvalidPrompt when nothing fits.
        """
        found = _plan(self._problem, limits, among)
        if isinstance(found, InvalidPrompt):
            raise InvalidPrompt(found.message, **found.details)
        return found

    @cached_property
    def _problem(self) -> "_Problem":
        return _Problem(self.pool, self.cells, self.min_support)

    def plan_within(self, active_params_b: float) -> Plan:
        """As `plan`, of what is hosted: if that was limited, of the experts of named budgets, and by the same limit."""
        limits = [plan.limits.hosted_params_b for plan in self.budgets.values()]
        bounds = [limit for limit in limits if limit is not None]
        if not bounds or len(bounds) < len(limits):
            return self.plan(Limits(active_params_b))
        hosted = frozenset(name for plan in self.budgets.values() for name in plan.experts.values())
        return self.plan(Limits(active_params_b, max(bounds)), hosted)


@dataclass(frozen=True)
class _Problem:
    """What plans are solved of. Hashed once: with hundreds of experts that takes as long as all else for a prompt."""

    pool: tuple[PoolExpert, ...]
    cells: tuple[Cell, ...]
    min_support: int

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.pool, self.cells, self.min_support))


@lru_cache(CACHED_PLANS)
def _plan(problem: _Problem, limits: Limits, among: frozenset[str] | None) -> Plan | InvalidPrompt:
    """That nothing fits is kept as well: finding it out costs as much."""
    try:
        return _solved(problem.pool, problem.cells, problem.min_support, limits, among)
    except InvalidPrompt as error:
        return error.with_traceback(None)


def _solved(
    pool: Sequence[PoolExpert], cells: Sequence[Cell], min_support: int, limits: Limits, hosted: AbstractSet[str] | None
) -> Plan:
    parts = [cell for cell in cells if cell.is_part]
    whole = [cell for cell in cells if not cell.is_part and not cell.pooled]
    experts: dict[str, str] = {}
    solutions: list[Solution] = []
    for group in (parts, whole):
        if group:
            solution = _solve_group(pool, group, min_support, limits, hosted)
            experts |= {cell.name: pool[chosen].name for cell, chosen in zip(group, solution.chosen, strict=True)}
            solutions.append(solution)
            if limits.hosted_params_b is not None:
                # The finer group decides what is hosted: the other must make do with it.
                hosted = set(experts.values())
    for cell in cells:
        if cell.pooled:
            experts[cell.name] = _best_single(pool, cell, min_support, limits, hosted)
    used = sum(expert.total_params_b for expert in pool if expert.name in set(experts.values()))
    return Plan(limits, experts, solutions[0].quality, solutions[0].active_params_b, used)


def _solve_group(
    pool: Sequence[PoolExpert], group: Sequence[Cell], min_support: int, limits: Limits, hosted: AbstractSet[str] | None
) -> Solution:
    share = np.array([cell.share for cell in group])
    support = np.array([cell.support for cell in group])
    # An expert that too few outcomes speak for is left out, unless that would leave none.
    eligible = eligible_pairs(support, min_support)
    if hosted is not None:
        eligible &= np.array([expert.name in hosted for expert in pool])
    return solve(
        np.array([cell.quality for cell in group]),
        share / share.sum(),
        np.array([expert.active_params_b for expert in pool]),
        np.array([expert.total_params_b for expert in pool]),
        limits,
        eligible,
    )


def _best_single(
    pool: Sequence[PoolExpert], cell: Cell, min_support: int, limits: Limits, hosted: AbstractSet[str] | None
) -> str:
    """How often such a cell is asked for is unknown, so its expert alone must keep to the budget."""
    known = eligible_pairs(np.array([cell.support]), min_support)[0]
    candidates = [
        (bool(enough), quality - limits.penalty * expert.active_params_b, -expert.active_params_b, expert)
        for expert, quality, enough in zip(pool, cell.quality, known, strict=True)
        if hosted is None or expert.name in hosted
    ]
    limit = limits.active_params_b
    within = [entry for entry in candidates if limit is None or entry[3].active_params_b <= limit]
    if not within:
        return min((entry[3] for entry in candidates), key=lambda expert: expert.active_params_b).name
    # One that too few outcomes speak for comes after all others.
    return max(within, key=lambda entry: entry[:3])[3].name
