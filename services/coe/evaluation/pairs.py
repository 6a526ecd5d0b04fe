"""RouteLLM's view: one weak and one strong expert, and how much of the gap few calls of the strong one recover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.metrics import Interval, PairFigures, pair_figures, resampled
from coe.mapper.outcomes import Outcomes
from coe.mapper.pool import PoolExpert

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

    def figures(rows: NDArray[np.int64]) -> PairFigures:
        return pair_figures(gain[rows], test.scores[rows, weak], test.scores[rows, strong])

    return Pair(
        pool[weak].name,
        pool[strong].name,
        figures(np.arange(len(test))),
        resampled(lambda rows: figures(rows).apgr, len(test)),
        resampled(lambda rows: figures(rows).cpt_50, len(test)),
        resampled(lambda rows: figures(rows).cpt_80, len(test)),
    )
