"""The trained classifier: features in, calibrated probabilities and an out-of-distribution score out. Pure.

A linear head over the embedding and one over the words add up to logits of the categories and of "none of them", which
was learnt from outliers (Hendrycks et al. 2019). Their softmax is mixed with the votes of the k nearest labelled
prototypes (k-NN). Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks") calibrates the
confidence; the temperature also depends on the out-of-distribution score. Categories added by a user are gates in front
of the others: what they don't claim keeps its relative probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router import novelty
from coe.router.features import Hashed
from coe.router.probability import expit, log_softmax, logsumexp, softmax

Floats = NDArray[np.float32]
# Added to probabilities before taking their logarithm.
SMALLEST = 1e-6
# Margin of "none" over the categories, energy (Liu et al. 2020), entropy, mean distance to the nearest prototypes, and
# the novelty features of the text itself.
OUTLIER_FEATURES = ("none", "energy", "entropy", "distance", *novelty.FEATURES)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of n texts: unit embeddings [n, D], hashed words, and novelty features [n, S]."""

    embeddings: Floats
    lexical: Sequence[Hashed]
    novelty: Floats

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Features":
        indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Features(self.embeddings[indices], [self.lexical[row] for row in indices], self.novelty[indices])


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Linear heads over the embedding [C + 1, D] and over the hashed words [B, C + 1].

    The last logit is that of no category. The word weights have one row per bucket, so a text reads few rows.
    """

    weight: Floats
    bias: Floats
    lexical_weight: Floats

    def logits(self, features: Features) -> Floats:
        words = np.stack([text.values @ self.lexical_weight[text.indices] for text in features.lexical])
        return features.embeddings @ self.weight.T + self.bias + words


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Labelled unit vectors [P, D]; each of the k nearest votes with weight exp(sharpness * (similarity - 1))."""

    prototypes: Floats
    labels: NDArray[np.int64]
    k: int
    sharpness: float

    def votes(self, embeddings: Floats, categories: int) -> tuple[Floats, Floats]:
        """Shares of the vote [n, categories] and the mean distance to the k nearest [n], 0 to 2."""
        # Avoids BLAS: its threads would spin on other cores for longer than this takes on one.
        similarity = np.einsum("nd,pd->np", embeddings, self.prototypes)
        k = min(self.k, similarity.shape[1])
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(similarity, nearest, axis=1)
        votes = np.zeros((len(embeddings), categories), np.float32)
        weight = np.exp(self.sharpness * (near - 1))
        np.add.at(votes, (np.arange(len(embeddings))[:, None], self.labels[nearest]), weight)
        return votes / votes.sum(1, keepdims=True), 1 - near.mean(1)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Temperatures: exp(base + slope * out-of-distribution score) divides the heads' logits, exp(mixed) the mixture's.

    The mixture's logits are the logarithms of its probabilities, after the votes are mixed in.
    """

    base: float = 0.0
    slope: float = 0.0
    mixed: float = 0.0

    def of(self, strange: Floats) -> Floats:
        """The divisor of each prompt's logits, given the out-of-distribution scores [n]."""
        divisor: Floats = np.exp(self.base + self.slope * strange).astype(np.float32)
        return divisor

    def temper(self, mixture: Floats) -> Floats:
        """Calibrates the mixture of head and votes [n, C]."""
        return softmax(np.log(mixture + SMALLEST) / np.float32(np.exp(self.mixed)))


@dataclass(frozen=True, slots=True, eq=False)
class Detectors:
    """K logistic detectors over `outlier_features`, each for one kind of outlier: weight [K, F], bias [K]."""

    weight: Floats
    bias: Floats

    def score(self, features: Floats) -> Floats:
        """Probability that at least one detector is right, assuming independence (noisy-OR).

        Ranges from 0, like the training prompts, to 1.
        """
        ordinary = expit(-(features @ self.weight.T + self.bias))
        score: Floats = (1 - ordinary.prod(axis=1)).astype(np.float32)
        return score


@dataclass(frozen=True, slots=True, eq=False)
class RouterModel:
    """`categories` lists those of the heads, then those of the gates. Gate weights are [G, D], biases [G]."""

    categories: tuple[str, ...]
    heads: Heads
    neighbours: Neighbours
    neighbour_share: float
    temperature: Temperature
    detectors: Detectors
    gate_weight: Floats
    gate_bias: Floats

    def scores(self, features: Features) -> "Scores":
        every = self.heads.logits(features)
        votes, distance = self.neighbours.votes(features.embeddings, len(self.categories))
        strange = self.detectors.score(outlier_features(every, distance, features.novelty))
        head = softmax(every[:, :-1] / self.temperature.of(strange)[:, None])
        # Prototypes of gated categories have no vote: their gates decide.
        mine = votes[:, : head.shape[1]]
        total = mine.sum(1, keepdims=True)
        mine = np.where(total > 0, mine / np.maximum(total, SMALLEST), head)
        probabilities = self.temperature.temper((1 - self.neighbour_share) * head + self.neighbour_share * mine)
        claims = expit(features.embeddings @ self.gate_weight.T + self.gate_bias)
        for claimed in claims.T[:, :, None]:
            probabilities = np.concatenate([probabilities * (1 - claimed), claimed], axis=1)
        # What a gate claims looks strange only because the heads were not trained on it.
        score = strange * (1 - claims).prod(axis=1)
        return Scores(probabilities.astype(np.float32), score.astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    probabilities: Floats  # [n, C], rows sum to 1
    out_of_distribution: Floats  # [n], 0 (like the training prompts) to 1


def outlier_features(every: Floats, distance: Floats, text: Floats) -> Floats:
    """The features named by OUTLIER_FEATURES, from logits [n, C + 1], distances [n] and novelty features [n, S]."""
    logits, none = every[:, :-1], every[:, -1]
    mass = logsumexp(logits)
    logs = log_softmax(logits)
    entropy = -(np.exp(logs) * logs).sum(1)
    return np.column_stack([none - mass, -mass, entropy, distance, text]).astype(np.float32)
