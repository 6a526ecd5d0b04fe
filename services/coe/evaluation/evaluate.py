"""Fits every system on one part of the outcomes and scores it on the other, once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.evaluation import systems
from coe.evaluation.composition import Asked, Composition, fit_composition
from coe.evaluation.lagrangian import choose, penalty_for
from coe.evaluation.metrics import Interval, column_means, curve_area, resampled
from coe.evaluation.neighbours import neighbour_quality
from coe.evaluation.pairs import Pair, judge_pair
from coe.evaluation.planning import assign, guarded, margin
from coe.evaluation.systems import System
from coe.mapper.outcomes import Outcomes
from coe.mapper.pool import PoolExpert
from coe.mapper.split import groups
from coe.mapper.table import QualityTable
from coe.mapper.text_features import text_features

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
# Budgets of the frontier: average active parameters in billions; None is unlimited.
BUDGETS: tuple[float | None, ...] = (9.0, 15.0, 31.0, 54.0, None)
# Numbers of neighbours and weights of the category prior to choose from, on the training part.
NEIGHBOURS = ((10, 5.0), (20, 5.0), (40, 10.0), (80, 20.0))


@dataclass(frozen=True, eq=False)
class Part:
    """Outcomes of the pool's experts, with the embeddings of the prompts."""

    outcomes: Outcomes
    embeddings: Embeddings


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results. `area` is each family's mean score over costs from the smallest to the largest expert.

    `beside` are the composition's plans at the sizes of single experts: for each expert that no smaller one surpasses
    on the training part, the plan whose budget is its size.
    """

    dataset: str
    pool: tuple[PoolExpert, ...]
    train_prompts: int
    test_prompts: int
    systems: tuple[System, ...]
    frontier: tuple[System, ...]
    beside: tuple[System, ...]
    area: dict[str, Interval]
    pair: Pair
    composition: Composition


def evaluate(
    dataset: str,
    train: Part,
    test: Part,
    pool: Sequence[PoolExpert],
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """Evaluates all systems. The pool is in the order of the score columns.

    `progress` is called with the name of each step as it starts.
    """
    active = np.array([expert.active_params_b for expert in pool])
    scores = test.outcomes.scores
    names = [expert.name for expert in pool]
    progress("singles, mixing, oracle")
    compared = [*systems.singles(names, scores, active), systems.uniform(scores, active)]
    mixed = [systems.mixing(train.outcomes.scores, scores, active, budget) for budget in BUDGETS]
    compared += [system for system in mixed if system is not None]
    compared.append(systems.oracle(scores, active))
    progress("composition of experts")
    sizes = _own_sizes(train.outcomes.scores, active)
    budgets = [*BUDGETS, *sizes]
    composition = fit_composition(train.outcomes, train.embeddings, active, budgets, seed, progress)
    progress("category map")
    asked = Asked(text_features(test.outcomes.prompts), test.embeddings)
    cells = composition.levels.cells(asked)
    predicted = cells["plain"]
    compared += _by_table("category", composition.plain, predicted, active, scores, len(train.outcomes))
    progress("nearest neighbours")
    compared += _by_neighbours(composition, predicted, train, test, active)
    progress("frontier")
    plans = {
        budget: systems.chosen(f"CoE{systems.suffix(budget)}", "coe", choice, scores, active, budget)
        for budget, choice in composition.choices(cells).items()
    }
    frontier = [plan for budget, plan in plans.items() if budget in BUDGETS]
    return Evaluation(
        dataset,
        tuple(pool),
        len(train.outcomes),
        len(test.outcomes),
        tuple(compared + frontier),
        tuple(frontier),
        tuple(plans[size] for size in sizes if size in plans),
        _areas([*compared, *frontier], active, seed),
        judge_pair(composition.levels.quality(asked), train.outcomes, test.outcomes, pool),
        composition,
    )


def _own_sizes(scores: Floats, active: Floats) -> list[float]:
    """Sizes of the experts that no expert of the same size or smaller surpasses, smallest first."""
    quality = np.nanmean(scores, axis=0)
    return sorted(
        {float(size) for size, own in zip(active, quality, strict=True) if own >= quality[active <= size].max()}
    )


def _by_table(
    kind: systems.Kind,
    table: QualityTable,
    cells: Sequence[str],
    active: Floats,
    scores: Floats,
    prompts: int,
) -> list[System]:
    found = []
    for budget in BUDGETS:
        solution = guarded(table, active, budget, prompts)
        if solution is not None:
            name = f"{kind}{systems.suffix(budget)}"
            found.append(systems.chosen(name, kind, assign(table, solution, cells), scores, active, budget))
    return found


def _by_neighbours(
    composition: Composition, predicted: Sequence[str], train: Part, test: Part, active: Floats
) -> list[System]:
    """The nearest-neighbour systems, with all parameters chosen on the training part.

    k and the prior's weight maximise the leave-one-out score without a limit; lambda is found for each budget.
    """
    plain = composition.plain
    row_of = {name: row for row, name in enumerate(plain.cells)}
    allowed = np.where(plain.eligible, plain.quality, np.nan)
    known = train.outcomes.scores
    prior = allowed[[row_of[name] for name in composition.train_cells]]
    best: tuple[float, int, float] = (-1.0, 0, 0.0)
    rows, group = np.arange(len(known)), groups(train.outcomes)
    for k, weight in NEIGHBOURS:
        fitted = neighbour_quality(train.embeddings, known, prior, train.embeddings, k=k, weight=weight, group=group)
        best = max(best, (float(np.nanmean(known[rows, choose(fitted, active, 0.0)])), k, weight))
    _, k, weight = best
    fitted = neighbour_quality(train.embeddings, known, prior, train.embeddings, k=k, weight=weight, group=group)
    asked = allowed[[row_of[name] for name in predicted]]
    quality = neighbour_quality(train.embeddings, known, asked, test.embeddings, k=k, weight=weight)
    found = []
    for budget in BUDGETS:
        limit = budget
        for _ in range(3 if budget is not None else 1):
            penalty = penalty_for(fitted, active, limit)
            cost = active[choose(fitted, active, penalty)]
            if budget is not None:
                limit = budget - margin(cost, np.full(len(cost), 1 / len(cost)), len(cost))
        if budget is None or cost.mean() <= budget:
            choice = choose(quality, active, penalty)
            name = f"kNN (k={k}){systems.suffix(budget)}"
            found.append(systems.chosen(name, "knn", choice, test.outcomes.scores, active, budget))
    return found


def _areas(compared: Sequence[System], active: Floats, seed: int) -> dict[str, Interval]:
    """The area of each family that has budgets, as one curve over measured costs."""
    areas = {}
    for kind, label in (("coe", "coe"), ("knn", "knn"), ("category", "category"), ("random", "random mixing")):
        family = [system for system in compared if system.kind == kind and system.name != "random"]
        areas[label] = _area(family, float(active.min()), float(active.max()), seed)
    return areas


def _area(family: Sequence[System], low: float, high: float, seed: int) -> Interval:
    scores, cost = (np.stack([getattr(s, name) for s in family], axis=1) for name in ("scores", "active"))

    def area(rows: NDArray[np.int64]) -> float:
        return curve_area(cost[rows].mean(0).tolist(), column_means(scores[rows]).tolist(), low, high)

    return resampled(area, len(scores), seed=seed)
