"""The rows and sentences of the report. Pure."""

from dataclasses import dataclass

import numpy as np

from coe.evaluation.evaluate import BUDGETS, Evaluation
from coe.evaluation.metrics import Interval, bootstrap, paired_bootstrap
from coe.evaluation.systems import System


@dataclass(frozen=True, slots=True)
class SystemRow:
    name: str
    kind: str
    interval: Interval
    active_params_b: float
    coverage: float


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A point of the frontier, compared with other systems of the same budget; differences are CoE minus the other."""

    budget_b: float | None
    coe: Interval
    active_params_b: float
    level: str
    best_single: str
    over_single: Interval
    over_category: Interval | None
    over_knn: Interval | None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the map in use: a cell, its share of the prompts, their number, and the expert under each budget."""

    cell: str
    share: float
    prompts: int
    experts: tuple[str, ...]


def system_rows(evaluation: Evaluation, seed: int) -> list[SystemRow]:
    return [
        SystemRow(
            system.name, system.kind, bootstrap(system.scores, seed=seed), system.active_params_b, system.coverage
        )
        for system in evaluation.systems
    ]


def best_single(evaluation: Evaluation, budget_b: float | None) -> System | None:
    """The single expert with the highest test score among those within the budget."""
    limit = np.inf if budget_b is None else budget_b
    within = [s for s in evaluation.systems if s.kind == "single" and s.active_params_b <= limit]
    return max(within, key=lambda system: system.score, default=None)


def budget_rows(evaluation: Evaluation, seed: int) -> list[BudgetRow]:
    rows = []
    for point in evaluation.frontier:
        single = best_single(evaluation, point.budget_b)
        if single is None:
            continue
        others = {
            system.kind: paired_bootstrap(point.scores, system.scores, seed=seed)
            for system in evaluation.systems
            if system.kind in ("category", "knn") and system.budget_b == point.budget_b
        }
        rows.append(
            BudgetRow(
                point.budget_b,
                bootstrap(point.scores, seed=seed),
                point.active_params_b,
                evaluation.composition.level_of[point.budget_b],
                single.name,
                paired_bootstrap(point.scores, single.scores, seed=seed),
                others.get("category"),
                others.get("knn"),
            )
        )
    return rows


def table_rows(evaluation: Evaluation) -> list[TableRow]:
    """The finest map that any budget uses, in readable form."""
    composition = evaluation.composition
    refined = "refined" in composition.level_of.values()
    table = composition.levels.refined if refined else composition.plain
    names = [expert.name.rpartition("/")[2] for expert in evaluation.pool]
    plans = [composition.plan(budget) if budget in composition.level_of else (table, None) for budget in BUDGETS]
    rows = []
    for row, cell in enumerate(table.cells):
        experts = []
        for plan, solution in plans:
            name = cell if cell in plan.cells else _category_of(cell, plan.cells)
            experts.append("" if solution is None or not name else names[solution.chosen[plan.cells.index(name)]])
        rows.append(TableRow(cell, float(table.share[row]), int(table.support[row].max()), tuple(experts)))
    return rows


def _category_of(part: str, cells: tuple[str, ...]) -> str:
    """The most specific cell whose name is a prefix of the part's; empty if there is none."""
    found = [cell for cell in cells if part.startswith(f"{cell}/")]
    return max(found, key=len, default="")


def findings(evaluation: Evaluation, seed: int) -> list[str]:
    """The main findings, in a few sentences."""
    lines = []
    largest = best_single(evaluation, None)
    for row in budget_rows(evaluation, seed):
        if row.budget_b is None or largest is None:
            continue
        within = best_single(evaluation, row.budget_b)
        assert within is not None
        gap, gain = largest.score - within.score, row.coe.mean - within.score
        beside = f", {gain / gap:.0%} of the way to the best of any size" if gap > max(0.0, gain) else ""
        if gap > 0 and not beside:
            beside = f"; the best of any size, {largest.name}, scores {largest.score:.3f}"
        lines.append(
            f"Within {row.budget_b:g} B the composition scores {row.coe.mean:.3f} with {row.active_params_b:.1f} B on "
            f"average; the best single expert that fits, {within.name}, scores {within.score:.3f}{beside}."
        )
    area = {name: interval.mean for name, interval in evaluation.area.items()}
    own = evaluation.area["coe"]
    best = max(area, key=lambda name: area[name])
    names = {"coe": "the composition", "knn": "nearest neighbours", "category": "the category map"}
    lines.append(
        f"Over all budgets the area under the composition's curve is {own.mean:.4f} "
        f"({own.low:.3f} to {own.high:.3f}; nearest neighbours "
        f"{area['knn']:.4f}, category map {area['category']:.4f}, random mixing {area['random mixing']:.4f}); "
        f"the largest is that of {names.get(best, best)}."
    )
    return lines
