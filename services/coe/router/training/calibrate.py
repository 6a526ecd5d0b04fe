"""Fits the outlier detectors, the temperature and the thresholds to scores of held-out prompts. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from coe.router import phrases, spelling, switching
from coe.router.model import OUTLIER_FEATURES, SMALLEST, Detectors, Temperature
from coe.router.policy import Thresholds
from coe.router.training.fit import fit_detector
from coe.router.training.noise import family
from coe.router.training.validate import DOMAIN, NOISE, OTHER, SEEN, UNSEEN, HeldOut

Floats = NDArray[np.float32]
Weights = NDArray[np.float64]

# Conformal thresholds, as shares of the prompts of unseen sources: those sent to `general` as out of distribution, and
# those sent there for either reason.
STRANGE_SHARE, REJECTED_SHARE = 0.03, 0.12
# Upper bound on the confidence threshold: a prompt this confident is not rejected, however confident the others are.
SURE = 0.9
# The kinds of outliers that each detector finds, and the features it uses. Strange topics show in the heads, noise in
# the text.
DETECTORS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((DOMAIN, OTHER), ("none", "energy", "entropy", "distance")),
    (
        ("typing", "mash", "alphabet"),
        ("none", "entropy", "distance", *spelling.FEATURES, "language doubt", "language switches"),
    ),
    (
        ("switching",),
        ("none", "distance", "unseen English words", "unseen other words", "odd symbols", *switching.FEATURES),
    ),
    (("injection",), ("none", "distance", *phrases.FEATURES)),
)
# Bias of a detector without training outliers: it never fires.
NEVER = -50.0
# Detectors are fitted at even odds. Each kind of noise is assumed to be rarer than a strange topic by this much on the
# logit scale: half a unit more would cost as much AUROC on noise as it would gain on topics.
RARER = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    detectors: Detectors
    temperature: Temperature
    thresholds: Thresholds


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A calibrated router's output for held-out prompts; `covered`: not rejected by a threshold."""

    probabilities: Floats
    strange: Floats
    covered: NDArray[np.bool_]


def equal_groups(held: HeldOut) -> Weights:
    """Weights [n] that sum to 1 for each role and, within a role, are equal for each group."""
    weight = np.zeros(len(held))
    for role in np.unique(held.role):
        rows = held.role == role
        names, inverse, sizes = np.unique(held.group[rows], return_inverse=True, return_counts=True)
        weight[rows] = (1 / (len(names) * sizes))[inverse]
    return weight


def calibrate(held: HeldOut, neighbour_share: float) -> Calibration:
    """Calibrates with equal weight for seen and unseen sources, and for left-out and other domains.

    If no source could be left out, the thresholds are set on seen sources; prompts of unseen ones will then be rejected
    more often.
    """
    weight = equal_groups(held)
    inside = np.isin(held.role, (SEEN, UNSEEN))
    detectors = fit_detectors(held, weight)
    strange = detectors.score(held.outlier)
    temperature = fit_temperature(held[inside], strange[inside], weight[inside], neighbour_share)
    unseen = held.role == (UNSEEN if UNSEEN in held.role else SEEN)
    confidence = probabilities(held[unseen], strange[unseen], temperature, neighbour_share).max(1)
    return Calibration(detectors, temperature, thresholds(confidence, strange[unseen], weight[unseen]))


def fit_detectors(held: HeldOut, weight: Weights) -> Detectors:
    """Fits each detector on its own kinds of outliers against ordinary prompts; without any, it never fires."""
    inside = np.isin(held.role, (SEEN, UNSEEN))
    kind = np.array(
        [family(group) if role == NOISE else str(role) for role, group in zip(held.role, held.group, strict=True)]
    )
    matrix = np.zeros((len(DETECTORS), len(OUTLIER_FEATURES)), np.float32)
    bias = np.full(len(DETECTORS), NEVER, np.float32)
    for row, (kinds, names) in enumerate(DETECTORS):
        outside = np.isin(kind, kinds)
        if not outside.any():
            continue
        rows = inside | outside
        columns = [OUTLIER_FEATURES.index(name) for name in names]
        balanced = weight / np.where(outside, weight[outside].sum(), weight[inside].sum()) * rows.sum() / 2
        found = fit_detector(held.outlier[rows][:, columns], outside[rows], balanced[rows].astype(np.float32))
        matrix[row, columns], bias[row] = found
        if DOMAIN not in kinds:
            bias[row] -= RARER
    return Detectors(matrix, bias)


def thresholds(confidence: Floats, strange: Floats, weight: Weights) -> Thresholds:
    """Thresholds that reject the weighted shares above.

    A prompt rejected as out of distribution does not count towards those rejected for low confidence.
    """
    limit = min(-_quantile(-strange, weight, STRANGE_SHARE), 1.0)
    kept = strange <= limit
    share = (REJECTED_SHARE - weight[~kept].sum() / weight.sum()) / (weight[kept].sum() / weight.sum())
    return Thresholds(min(max(_quantile(confidence[kept], weight[kept], share), 0.0), SURE), limit)


def _quantile(values: Floats, weight: Weights, share: float) -> float:
    """The largest value that a further one falls below with probability of at most `share` (conformal quantile).

    The further value counts as one of n + 1; -inf when there is no such value.
    """
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order]) / (weight.sum() * (1 + 1 / len(values)))
    place = int(np.searchsorted(cumulated, share, side="right")) - 1
    return float(values[order][place]) if place >= 0 else -np.inf


def fit_temperature(held: HeldOut, strange: Floats, weight: Weights, neighbour_share: float) -> Temperature:
    """The temperature that minimises the weighted negative log likelihood."""
    rows = np.arange(len(held))

    def loss(parameters: Weights) -> float:
        likely = probabilities(held, strange, Temperature(*parameters.tolist()), neighbour_share)
        return float(-(weight * np.log(likely[rows, held.target] + SMALLEST)).sum() / weight.sum())

    found = minimize(loss, np.zeros(3), method="Nelder-Mead", bounds=[(-3, 3), (-4, 4), (-2, 2)])
    return Temperature(*found.x.tolist())


def probabilities(held: HeldOut, strange: Floats, temperature: Temperature, neighbour_share: float) -> Floats:
    """Probabilities [n, C] as `RouterModel.scores` computes them."""
    head = softmax(held.logits / temperature.of(strange)[:, None], axis=1)
    return temperature.temper((1 - neighbour_share) * head + neighbour_share * held.votes)


def judged(held: HeldOut, calibration: Calibration, neighbour_share: float) -> Judged:
    strange = calibration.detectors.score(held.outlier)
    likely = probabilities(held, strange, calibration.temperature, neighbour_share)
    limits = calibration.thresholds
    covered = (strange <= limits.out_of_distribution) & (likely.max(1) >= limits.confidence)
    return Judged(likely, strange, covered)
