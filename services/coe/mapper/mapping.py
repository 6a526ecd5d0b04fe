"""A solved mapping: each expert's expected quality in each cell, and the expert that each budget gives a cell. Pure.

A cell is a category (`math`) or a part of one (`math/grade-school`). Categories and parts are solved separately, each
with traffic shares that sum to 1, so that a budget holds whether or not the part of a prompt is known.
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

# The budget of prompts that name none.
DEFAULT_BUDGET = "quality"
# The category of uncertain prompts, whatever they are about.
FALLBACK = "general"
# Most plans to cache for numeric budgets.
CACHED_PLANS = 2048


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of the table: `quality` and `support` (outcomes) have one entry per expert of the pool.

    `share` is the cell's share of the traffic. `pooled`: the cell has no outcomes of its own, so its figures are over
    all outcomes.
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
    """An expert for every cell. The expected figures are weighted by the traffic shares of the finest cells."""

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
    # SHA-256 of the file of the refiner that finds a prompt's part; empty: only the router can name parts.
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
        """The finest known cell: the part, else the category, else the fallback.

        `part` may be given with or without its category as a prefix.
        """
        known = {cell.name: cell for cell in self.cells}
        for name in (part if part.startswith(f"{category}/") else f"{category}/{part}", category):
            if name in known:
                return known[name]
        return known[FALLBACK]

    @cached_property
    def ranked(self) -> dict[str, tuple[tuple[PoolExpert, float], ...]]:
        """The pool with its expected qualities in each cell, best first; ties go to the smaller expert."""
        return {
            cell.name: tuple(
                sorted(zip(self.pool, cell.quality, strict=True), key=lambda pair: (-pair[1], pair[0].active_params_b))
            )
            for cell in self.cells
        }

    def plan(self, limits: Limits, among: frozenset[str] | None = None) -> Plan:
        """Solves the mapping under `limits`, using only the experts `among` (None: all). Cached.

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
        """The plan for a limit on average active parameters, in billions. Raises InvalidPrompt.

        If every named budget limits what is hosted, only experts of their plans are used, under the largest such limit.
        """
        limits = [plan.limits.hosted_params_b for plan in self.budgets.values()]
        bounds = [limit for limit in limits if limit is not None]
        if not bounds or len(bounds) < len(limits):
            return self.plan(Limits(active_params_b))
        hosted = frozenset(name for plan in self.budgets.values() for name in plan.experts.values())
        return self.plan(Limits(active_params_b, max(bounds)), hosted)


@dataclass(frozen=True)
class _Problem:
    """What a plan is solved from, as a cache key.

    The hash is computed once: with hundreds of experts, it takes as long as everything else done for a prompt.
    """

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
    """Returns the error when nothing fits, so that it is cached too: finding out takes just as long."""
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
                # The finer group decides what is hosted; the other is restricted to it.
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
    # Experts with too few outcomes are left out, unless that would leave none.
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
    """The expert for a cell of unknown traffic share: the best that fits the budget by itself, else the smallest."""
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
    # Experts with too few outcomes rank last.
    return max(within, key=lambda entry: entry[:3])[3].name
