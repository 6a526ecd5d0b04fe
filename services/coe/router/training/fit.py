"""Fits a RouterModel on embeddings and labels. Deterministic by seed; no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from coe.router.model import NeighbourSettings, RouterModel

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """`per_source` and `prototypes` bound how many prompts of one source the head and the neighbours learn from."""

    inverse_regularisation: float = 20.0
    per_source: int = 3000
    prototypes: int = 400
    neighbours: NeighbourSettings = field(default_factory=lambda: NeighbourSettings(k=15, sharpness=10.0, share=0.3))


def fit(
    embeddings: Floats,
    labels: Sequence[str],
    sources: Sequence[str],
    *,
    settings: FitSettings,
    seed: int,
    temperature: float = 1.0,
) -> RouterModel:
    """A model of unit embeddings [n, D] with their labels and sources."""
    categories = tuple(sorted(set(labels)))
    targets = np.array([categories.index(label) for label in labels])
    groups = [f"{label}\0{source}" for label, source in zip(labels, sources, strict=True)]
    rng = np.random.default_rng(seed)
    chosen = sample(groups, settings.per_source, rng)
    head = LogisticRegression(C=settings.inverse_regularisation, class_weight="balanced", max_iter=500)
    head.fit(embeddings[chosen], targets[chosen])
    near = sample(groups, settings.prototypes, rng)
    return RouterModel(
        categories=categories,
        weight=head.coef_.astype(np.float32),
        bias=head.intercept_.astype(np.float32),
        prototypes=embeddings[near],
        prototype_labels=targets[near],
        neighbours=settings.neighbours,
        temperature=temperature,
    )


def sample(groups: Sequence[str], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most `most` members of each group, in order."""
    order = rng.permutation(len(groups))
    taken: dict[str, int] = {}
    kept = []
    for index in order:
        count = taken.get(groups[index], 0)
        if count < most:
            taken[groups[index]] = count + 1
            kept.append(index)
    return np.sort(np.array(kept, np.int64))


def best_temperature(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature that minimises the negative log likelihood of [n, C] probabilities taken at temperature 1."""
    logs = np.log(np.maximum(probabilities, 1e-9))

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        scaled -= np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        return float(-scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return float(np.exp(found.x))
