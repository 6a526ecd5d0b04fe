"""The systems compared. A system gives each test prompt an expert, by a plan made on the training part alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.metrics import hull

Floats = NDArray[np.float64]
Kind = Literal["single", "random", "category", "knn", "oracle", "coe"]


@dataclass(frozen=True, eq=False)
class System:
    """`scores` and `active` have an entry per test prompt; a score is NaN where the chosen expert was not run.

    `budget_b` None: unlimited, or a system without budgets.
    """

    name: str
    kind: Kind
    scores: Floats
    active: Floats
    budget_b: float | None = None

    @property
    def score(self) -> float:
        return float(np.nanmean(self.scores))

    @property
    def active_params_b(self) -> float:
        return float(self.active.mean())

    @property
    def coverage(self) -> float:
        """Share of the prompts where the chosen expert was run."""
        return float((~np.isnan(self.scores)).mean())


def chosen(
    name: str, kind: Kind, choice: NDArray[np.int64], scores: Floats, active: Floats, budget_b: float | None = None
) -> System:
    """A system that sends prompt i to expert choice[i]; scores are [prompts, experts], active [experts]."""
    return System(name, kind, scores[np.arange(len(choice)), choice], active[choice], budget_b)


def singles(names: Sequence[str], scores: Floats, active: Floats) -> list[System]:
    """One system per expert, which answers everything."""
    prompts = len(scores)
    return [
        chosen(name, "single", np.full(prompts, expert, np.int64), scores, active) for expert, name in enumerate(names)
    ]


def uniform(scores: Floats, active: Floats) -> System:
    """The expectation of drawing an expert at random for each prompt, among those run on it."""
    ran = ~np.isnan(scores)
    runs = np.maximum(1, ran.sum(1))
    return System("random", "random", np.nansum(scores, 1) / runs, (ran * active).sum(1) / runs)


def oracle(scores: Floats, active: Floats) -> System:
    """The best expert of each prompt, the smallest of equals: an upper bound for any router."""
    best = np.nanmax(scores, axis=1, keepdims=True)
    choice = np.where(scores == best, active[None, :], np.inf).argmin(1)
    return chosen("oracle", "oracle", choice, scores, active)


def mixing(train: Floats, test: Floats, active: Floats, budget_b: float | None) -> System | None:
    """Draws from two experts at random in the proportion that uses up the budget: the best pair on the training part.

    It is one expert alone if the best one fits the budget. None when no expert fits.
    """
    quality = np.nanmean(train, axis=0)
    points = hull(active.tolist(), quality.tolist())
    limit = np.inf if budget_b is None else budget_b
    name = f"random mixing{suffix(budget_b)}"
    if active[points[0]] > limit:
        return None
    if active[points[-1]] <= limit:
        return System(name, "random", test[:, points[-1]], np.full(len(test), active[points[-1]]), budget_b)
    right = next(index for index, point in enumerate(points) if active[point] > limit)
    low, high = points[right - 1], points[right]
    part = (limit - active[low]) / (active[high] - active[low])
    scores = (1 - part) * test[:, low] + part * test[:, high]
    cost = (1 - part) * active[low] + part * active[high]
    return System(name, "random", scores, np.full(len(test), cost), budget_b)


def suffix(budget_b: float | None) -> str:
    return "" if budget_b is None else f" ≤{budget_b:g} B"
