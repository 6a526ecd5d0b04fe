"""From scores of held-out prompts: the outlier head, the temperature and the thresholds. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from coe.router.model import OutlierHead, Temperature
from coe.router.policy import Thresholds
from coe.router.training.fit import fit_outlier, fit_temperature
from coe.router.training.validate import DOMAIN, NOISE, OTHER, SEEN, UNSEEN, HeldOut

Floats = NDArray[np.float32]
Weights = NDArray[np.float64]

# Conformal thresholds, as shares of prompts from unseen sources: those that may go to `general` as out of distribution,
# and those that may go there at all.
STRANGE_SHARE, REJECTED_SHARE = 0.03, 0.12


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    outlier: OutlierHead
    temperature: Temperature
    thresholds: Thresholds


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a calibrated router says of held-out prompts."""

    probabilities: Floats
    strange: Floats
    covered: NDArray[np.bool_]


def equal_groups(held: HeldOut) -> Weights:
    """Weights that give every group of a role the same share; those of a role sum to 1."""
    weight = np.zeros(len(held))
    for role in np.unique(held.role):
        rows = held.role == role
        names, inverse, sizes = np.unique(held.group[rows], return_inverse=True, return_counts=True)
        weight[rows] = (1 / (len(names) * sizes))[inverse]
    return weight


def calibrate(held: HeldOut, neighbour_share: float) -> Calibration:
    """Seen and unseen sources weigh the same, and so do noise, left-out domains and other domains."""
    weight = equal_groups(held)
    inside = np.isin(held.role, (SEEN, UNSEEN))
    outside = np.isin(held.role, (NOISE, DOMAIN, OTHER))
    balanced = weight / np.where(outside, weight[outside].sum(), weight[inside].sum()) * len(held) / 2
    outlier = fit_outlier(held.outlier, outside, balanced.astype(np.float32))
    strange = outlier.score(held.outlier)
    temperature = fit_temperature(
        held.logits[inside], strange[inside], held.target[inside], weight[inside].astype(np.float32)
    )
    unseen = held.role == UNSEEN
    confidence = probabilities(held[unseen], strange[unseen], temperature, neighbour_share).max(1)
    return Calibration(outlier, temperature, thresholds(confidence, strange[unseen], weight[unseen]))


def thresholds(confidence: Floats, strange: Floats, weight: Weights) -> Thresholds:
    """The shares above, by weight; a prompt that is strange is not also rejected for its confidence."""
    limit = _quantile(strange, weight, 1 - STRANGE_SHARE)
    kept = strange <= limit
    share = (REJECTED_SHARE - weight[~kept].sum() / weight.sum()) / (weight[kept].sum() / weight.sum())
    return Thresholds(_quantile(confidence[kept], weight[kept], share), limit)


def _quantile(values: Floats, weight: Weights, share: float) -> float:
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(cumulated, share)), len(values) - 1)])


def probabilities(held: HeldOut, strange: Floats, temperature: Temperature, neighbour_share: float) -> Floats:
    """As `RouterModel.scores` computes them."""
    head = softmax(held.logits / temperature.of(strange)[:, None], axis=1)
    mixed: Floats = (1 - neighbour_share) * head + neighbour_share * held.votes
    return mixed


def judged(held: HeldOut, calibration: Calibration, neighbour_share: float) -> Judged:
    strange = calibration.outlier.score(held.outlier)
    likely = probabilities(held, strange, calibration.temperature, neighbour_share)
    limits = calibration.thresholds
    covered = (strange <= limits.out_of_distribution) & (likely.max(1) >= limits.confidence)
    return Judged(likely, strange, covered)
