"""Scores, intervals and the metrics of RouteLLM (arXiv 2406.18665) and RouterBench (arXiv 2403.12031). Pure.

An expert that was not run on a prompt has no score there (NaN): means are over the prompts where the chosen expert was
run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 2000
# For figures that take longer to compute than a mean.
FIGURE_RESAMPLES = 300
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its bootstrap interval (percentiles)."""

    mean: float
    low: float
    high: float


def column_means(scores: Floats) -> Floats:
    """The mean of each column of `scores` [n, M] over the rows where it has a score; NaN if it has none."""
    ran = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(ran, scores, 0.0).sum(0) / ran.sum(0)
    return means


def bootstrap(values: Floats, *, seed: int = 0) -> Interval:
    """The interval of the mean of `values` [n], resampling prompts. NaN entries are ignored."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return Interval(float("nan"), float("nan"), float("nan"))
    means = _resampled_means(kept, seed)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(kept.mean()), float(low), float(high))


def paired_bootstrap(first: Floats, second: Floats, *, seed: int = 0) -> Interval:
    """The interval of the mean difference `first - second` over the prompts where both have a score."""
    return bootstrap(first - second, seed=seed)


def resampled(figure: Callable[[Ints], float], prompts: int, *, seed: int = 0) -> Interval:
    """The interval of a figure computed from row numbers of the prompts. Draws for which it is NaN are ignored."""
    value = figure(np.arange(prompts))
    if np.isnan(value):
        return Interval(value, value, value)
    random = np.random.default_rng(seed)
    drawn = [figure(random.integers(0, prompts, prompts)) for _ in range(FIGURE_RESAMPLES)]
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _resampled_means(values: Floats, seed: int) -> Floats:
    """Means of resamples, drawn one at a time to bound memory for any number of prompts."""
    random = np.random.default_rng(seed)
    n = len(values)
    means = [values[random.integers(0, n, n)].mean() for _ in range(RESAMPLES)]
    return np.array(means)


def curve_area(cost: Sequence[float], score: Sequence[float], low: float, high: float) -> float:
    """Mean score over costs from `low` to `high`: the area under the best score at or below each cost, by its width.

    Between points the curve is linear (two settings can be mixed at random); beyond them it is constant. This is
    RouterBench's AIQ without the convex hull.
    """
    order = np.argsort(cost, kind="stable")
    x = np.asarray(cost, float)[order]
    y = np.maximum.accumulate(np.asarray(score, float)[order])
    if high <= low:
        return float(np.interp(low, x, y))
    grid = np.unique(np.concatenate([x[(x > low) & (x < high)], [low, high]]))
    return float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low))


def hull(cost: Sequence[float], score: Sequence[float]) -> list[int]:
    """Indices of the upper concave hull, by increasing cost.

    It is what random mixing of the points can reach (RouterBench's Zero router).
    """
    order = sorted(range(len(cost)), key=lambda index: (cost[index], -score[index]))
    kept: list[int] = []
    for index in order:
        if kept and score[index] <= score[kept[-1]]:
            continue
        while len(kept) > 1 and _below(kept[-2], kept[-1], index, cost, score):
            kept.pop()
        kept.append(index)
    return kept


def _below(left: int, middle: int, right: int, cost: Sequence[float], score: Sequence[float]) -> bool:
    """Whether the middle point lies on or below the line from left to right."""
    rise = (score[middle] - score[left]) * (cost[right] - cost[left])
    return rise <= (score[right] - score[left]) * (cost[middle] - cost[left])


@dataclass(frozen=True, slots=True)
class PairFigures:
    """RouteLLM's figures for a weak and a strong model.

    `cpt_50` and `cpt_80` are the shares of calls to the strong model that recover 50 and 80 % of the gap.
    """

    apgr: float
    cpt_50: float
    cpt_80: float


def pair_figures(gain: Floats, weak: Floats, strong: Floats) -> PairFigures:
    """Computes the figures. Prompts go to the strong model in order of predicted `gain` [n], highest first.

    Prompts with equal gain have no order, so each counts with the mean of their gaps. PGR at a share of strong calls is
    (score - weak) / (strong - weak); APGR is its mean over shares 0 to 1 (trapezoidal rule over prompts). CPT is the
    smallest share of strong calls that recovers the given part of the gap. All are NaN if the strong one is no better.
    """
    ran = ~np.isnan(weak) & ~np.isnan(strong)
    gain, weak, strong = gain[ran], weak[ran], strong[ran]
    gap = strong - weak
    if gap.sum() <= 0:
        return PairFigures(float("nan"), float("nan"), float("nan"))
    _, alike = np.unique(gain, return_inverse=True)
    worth = (np.bincount(alike, gap) / np.bincount(alike))[alike]
    pgr = np.concatenate([[0.0], np.cumsum(worth[np.argsort(-gain)])]) / gap.sum()
    share = np.arange(len(pgr)) / (len(pgr) - 1)
    reached = [float(share[np.argmax(pgr >= part)]) for part in (0.5, 0.8)]
    return PairFigures(float(np.trapezoid(pgr, share)), reached[0], reached[1])
