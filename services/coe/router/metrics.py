"""Quality metrics of a router: calibration error and AUROC. Pure."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64] | NDArray[np.float32]


def expected_calibration_error(
    confidence: Floats, correct: NDArray[np.bool_], bins: int = 15, weight: NDArray[np.float64] | None = None
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by bin size (Naeini et al. 2015).

    `weight` is the weight of each prediction, all equal by default.
    """
    if not len(confidence):
        return 0.0
    share = np.ones(len(confidence)) if weight is None else weight
    index = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    gap = np.bincount(index, weights=share * (confidence - correct.astype(np.float64)), minlength=bins)
    return float(np.abs(gap).sum() / share.sum())


def auroc(inside: Floats, outside: Floats) -> float:
    """Probability that an outside score exceeds an inside one, ties counting half (Mann-Whitney U).

    NaN when either is empty.
    """
    if not len(inside) or not len(outside):
        return float("nan")
    ranks = rankdata(np.concatenate([outside, inside]))
    above = ranks[: len(outside)].sum() - len(outside) * (len(outside) + 1) / 2
    return float(above / (len(outside) * len(inside)))
