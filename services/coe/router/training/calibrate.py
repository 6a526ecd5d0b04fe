"""From scores of prompts the model had not seen: temperature, thresholds, the outlier head, and the figures. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from coe.router.metrics import auroc, expected_calibration_error
from coe.router.model import OutlierHead, Temperature
from coe.router.policy import Thresholds
from coe.router.training.fit import fit_outlier, fit_temperature
from coe.router.training.validate import HeldOut

Floats = NDArray[np.float32]

# Split conformal thresholds: share of prompts from unseen sources that may go to `general` for low confidence, and of
# prompts from seen sources that may go there as out of distribution.
UNSURE_SHARE, MISS_RATE = 0.1, 0.005


def temperature(seen: HeldOut, unseen: HeldOut) -> Temperature:
    """One temperature for prompts of seen and of unseen sources, which weigh the same; each unseen source equally."""
    weight = np.concatenate([np.full(len(seen.targets), 1 / len(seen.targets)), equal_groups(unseen)])
    return fit_temperature(
        np.concatenate([seen.logits, unseen.logits]),
        np.concatenate([seen.distance, unseen.distance]),
        np.concatenate([seen.targets, unseen.targets]),
        weight.astype(np.float32),
    )


def equal_groups(held: HeldOut) -> NDArray[np.float64]:
    """Weights that give every group the same share; they sum to 1."""
    names, inverse, sizes = np.unique(held.group, return_inverse=True, return_counts=True)
    return (1 / (len(names) * sizes))[inverse]


def probabilities(held: HeldOut, fitted: Temperature, neighbour_share: float) -> Floats:
    """As `RouterModel.scores` computes them."""
    tempered = held.logits / np.exp(fitted.base + fitted.slope * held.distance)[:, None]
    mixed: Floats = (1 - neighbour_share) * softmax(tempered, axis=1) + neighbour_share * held.votes
    return mixed


def thresholds(unseen: HeldOut, confidence: Floats, seen_strangeness: Floats) -> Thresholds:
    order = np.argsort(confidence)
    cumulated = np.cumsum(equal_groups(unseen)[order])
    limit = confidence[order][np.searchsorted(cumulated, UNSURE_SHARE)]
    return Thresholds(float(limit), float(np.quantile(seen_strangeness, 1 - MISS_RATE)))


def outliers(
    seen: HeldOut, made: Mapping[str, Floats], rng: np.random.Generator
) -> tuple[OutlierHead, dict[str, float], NDArray[np.bool_]]:
    """The head; AUROC of each kind by a head that was not trained on it; which seen prompts were not trained on.

    `made` holds the outlier features of each kind of outlier.
    """
    judged = rng.random(len(seen.targets)) < 0.5
    figures = {}
    for kind, strange in made.items():
        others = np.concatenate([features for other, features in made.items() if other != kind])
        head = fit_outlier(seen.outlier[~judged], others)
        figures[kind] = auroc(strangeness(head, seen.outlier[judged]), strangeness(head, strange))
    return fit_outlier(seen.outlier[~judged], np.concatenate(list(made.values()))), figures, judged


def strangeness(head: OutlierHead, features: Floats) -> Floats:
    score: Floats = expit(features @ head.weight + head.bias)
    return score


def figures(
    seen: HeldOut, unseen: HeldOut, fitted: Temperature, neighbour_share: float, chosen: Thresholds
) -> dict[str, float]:
    """Accuracy, coverage and expected calibration error. Unseen sources count equally."""
    found = {}
    for name, held in (("seen", seen), ("unseen", unseen)):
        scores = probabilities(held, fitted, neighbour_share)
        right, confidence = scores.argmax(1) == held.targets, scores.max(1)
        weight = equal_groups(held)
        covered = confidence >= chosen.confidence
        found[f"{name}_accuracy"] = float((weight * right).sum())
        found[f"{name}_coverage"] = float((weight * covered).sum())
        found[f"{name}_accuracy_covered"] = float((weight * right * covered).sum() / (weight * covered).sum())
        found[f"{name}_ece"] = expected_calibration_error(confidence, right)
    return found


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
