"""Scores, intervals and the figures of RouteLLM (arXiv 2406.18665) and RouterBench (arXiv 2403.12031). Pure.

A choice is an expert index for each prompt. An expert that was not run on a prompt has no score there (NaN): means are
over the prompts where the chosen expert was run, and `coverage` is their part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 2000
# Of figures that take longer than a mean.
FIGURE_RESAMPLES = 300
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its bootstrap interval (percentiles)."""

    mean: float
    low: float
    high: float


def column_means(scores: Floats) -> Floats:
    """Of each column [n, M], over the rows where it has a score; NaN of one without any."""
    ran = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(ran, scores, 0.0).sum(0) / ran.sum(0)
    return means


def bootstrap(values: Floats, *, seed: int = 0) -> Interval:
    """Of the mean of `values` [n], over prompts. NaN entries don't count."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return Interval(float("nan"), float("nan"), float("nan"))
    means = _resampled_means(kept, seed)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(kept.mean()), float(low), float(high))


def paired_bootstrap(first: Floats, second: Floats, *, seed: int = 0) -> Interval:
    """Of the mean difference `first - second` over the prompts where both have a score."""
    return bootstrap(first - second, seed=seed)


def resampled(figure: Callable[[Ints], float], prompts: int, *, seed: int = 0) -> Interval:
    """Of a figure of some rows of the prompts. It may be NaN: draws that are don't count."""
    value = figure(np.arange(prompts))
    if np.isnan(value):
        return Interval(value, value, value)
    random = np.random.default_rng(seed)
    drawn = [figure(random.integers(0, prompts, prompts)) for _ in range(FIGURE_RESAMPLES)]
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _resampled_means(values: Floats, seed: int) -> Floats:
    """One resample at a time: memory stays small for any number of prompts."""
    random = np.random.default_rng(seed)
    n = len(values)
    means = [values[random.integers(0, n, n)].mean() for _ in range(RESAMPLES)]
    return np.array(means)


def curve_area(cost: Sequence[float], score: Sequence[float], low: float, high: float) -> float:
    """Mean score over costs from `low` to `high`: area under the best score at or below each cost, over its width.

    Between points the curve is a straight line (two settings can be mixed at random); outside them it is level.
    RouterBench's AIQ without its hull.
    """
    order = np.argsort(cost, kind="stable")
    x = np.asarray(cost, float)[order]
    y = np.maximum.accumulate(np.asarray(score, float)[order])
    if high <= low:
        return float(np.interp(low, x, y))
    grid = np.unique(np.concatenate([x[(x > low) & (x < high)], [low, high]]))
    return float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low))


def hull(cost: Sequence[float], score: Sequence[float]) -> list[int]:
    """Indices of the upper concave hull by growing cost: what random mixing of the points can reach (Zero router)."""
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
    """RouteLLM's figures for a weak and a strong model. `cpt`: share of strong calls for 50 and 80 % of the gap."""

    apgr: float
    cpt_50: float
    cpt_80: float


def pair_figures(gain: Floats, weak: Floats, strong: Floats) -> PairFigures:
    """`gain` [n] is the predicted worth of the strong model: prompts are sent to it in this order, highest first.

    Prompts of the same worth come in no order, so each counts as their mean. PGR at a share of strong calls is
    (score - weak) / (strong - weak); APGR is its mean over shares 0 to 1 (trapezoid over every prompt). CPT is the
    smallest share from which that part of the gap is recovered; 1 when it never is.
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
