"""The trained classifier: embeddings in, calibrated probabilities and an out-of-distribution score out. Pure.

Two judges are mixed: a linear head, which generalises, and the k nearest labelled prototypes (k-NN), which know the
neighbourhood. The mixture is calibrated by one temperature (Guo et al. 2017, "On calibration of modern networks").
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """`k` neighbours, each weighted exp(sharpness * similarity); `share` of the mixture is theirs."""

    k: int
    sharpness: float
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class RouterModel:
    """C categories, P prototypes, D dimensions. Prototypes are unit vectors."""

    categories: tuple[str, ...]
    weight: Floats  # [C, D]
    bias: Floats  # [C]
    prototypes: Floats  # [P, D]
    prototype_labels: NDArray[np.int64]  # [P], indices into categories
    neighbours: NeighbourSettings
    temperature: float

    def scores(self, embeddings: Floats) -> "Scores":
        """Scores of unit embeddings [n, D]."""
        head = softmax(embeddings @ self.weight.T + self.bias, axis=1)
        similarity = embeddings @ self.prototypes.T
        k = min(self.neighbours.k, similarity.shape[1])
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(similarity, nearest, axis=1)
        votes = np.exp(self.neighbours.sharpness * (near - 1))
        counted = np.zeros_like(head)
        np.add.at(counted, (np.arange(len(head))[:, None], self.prototype_labels[nearest]), votes)
        local = counted / counted.sum(1, keepdims=True)
        share = self.neighbours.share
        mixture = np.log((1 - share) * head + share * local + 1e-9)
        probabilities = np.exp(log_softmax(mixture / self.temperature, axis=1))
        return Scores(probabilities.astype(np.float32), (1 - near.mean(1)).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    probabilities: Floats  # [n, C], rows sum to 1
    out_of_distribution: Floats  # [n], higher is stranger
