"""RouteLLM's evaluation: how much of the gap between a weak and a strong expert few calls to the strong one recover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.metrics import Interval, PairFigures, pair_figures, resampled
from coe.mapper.outcomes import Outcomes
from coe.mapper.pool import PoolExpert

# Largest size of the weak expert, as a fraction of the strong one's active parameters.
WEAK_PART = 0.5


@dataclass(frozen=True, slots=True)
class Pair:
    """Figures of a pair, with intervals bootstrapped over prompts; all NaN if the strong expert is no better."""

    weak: str
    strong: str
    figures: PairFigures
    apgr: Interval
    cpt_50: Interval
    cpt_80: Interval


def judge_pair(predicted: NDArray[np.float64], train: Outcomes, test: Outcomes, pool: Sequence[PoolExpert]) -> Pair:
    """Evaluates the pair chosen on the training part: the best expert, and the best that is at most half as large.

    If no expert is that small, the smallest is the weak one. `predicted` [test prompts, experts] are expected scores.
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
