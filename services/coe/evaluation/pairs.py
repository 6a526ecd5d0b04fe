"""RouteLLM's view: one weak and one strong expert, and how much of the gap few calls of the strong one recover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.metrics import CONFIDENCE, Interval, PairFigures, pair_figures
from coe.mapper.outcomes import Outcomes
from coe.mapper.pool import PoolExpert

RESAMPLES = 300
# The weak expert has at most this part of the strong one's active parameters.
WEAK_PART = 0.5


@dataclass(frozen=True, slots=True)
class Pair:
    """Intervals are bootstrapped over prompts; all is NaN where the strong expert turns out to be no better."""

    weak: str
    strong: str
    figures: PairFigures
    apgr: Interval
    cpt_50: Interval
    cpt_80: Interval


def judge_pair(predicted: NDArray[np.float64], train: Outcomes, test: Outcomes, pool: Sequence[PoolExpert]) -> Pair:
    """The strong expert is the best on the training part, the weak one the best that is at most half as large.

    `predicted` [test prompts, experts] are expected scores.
    """
    quality = np.nanmean(train.scores, axis=0)
    active = np.array([expert.active_params_b for expert in pool])
    strong = int(quality.argmax())
    small = active <= WEAK_PART * active[strong]
    weak = int(np.where(small, quality, -1.0).argmax()) if small.any() else int(active.argmin())
    gain = predicted[:, strong] - predicted[:, weak]
    scores = test.scores[:, weak], test.scores[:, strong]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(test), len(test))
        drawn.append(pair_figures(gain[rows], scores[0][rows], scores[1][rows]))
    figures = pair_figures(gain, *scores)
    return Pair(
        pool[weak].name,
        pool[strong].name,
        figures,
        _interval(figures.apgr, [draw.apgr for draw in drawn]),
        _interval(figures.cpt_50, [draw.cpt_50 for draw in drawn]),
        _interval(figures.cpt_80, [draw.cpt_80 for draw in drawn]),
    )


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    if np.isnan(value):
        return Interval(value, value, value)
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))
