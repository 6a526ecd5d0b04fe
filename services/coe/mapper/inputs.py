"""What the response model sees of a prompt: its words, what is counted in it, and waves over the counts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.mapper.text_features import MAX_CHARS, text_features
from coe.mapper.words import hashed_words

Floats = NDArray[np.float32]

# Counts are clipped at so many standard deviations: one odd prompt must not be extrapolated.
CLIP = 4.0
# What standardised counts are multiplied by beside words of unit length, so that one penalty suits both.
COUNT_SCALE = 0.1
# Random Fourier features (Rahimi and Recht 2007) of a Gaussian kernel exp(-GAMMA * distance²) over the counts.
GAMMA = 0.03
WAVES = 300


@dataclass(frozen=True, eq=False)
class Signs:
    """Of n prompts: `counts` [n, F] and hashed `words` [n, W]. The slow half of the inputs, made once."""

    counts: Floats
    words: Floats

    def rows(self, index: NDArray[np.int64]) -> "Signs":
        return Signs(self.counts[index], self.words[index])


def read_signs(texts: Sequence[str]) -> Signs:
    """Of a text's first MAX_CHARS characters."""
    texts = [text[:MAX_CHARS] for text in texts]
    return Signs(text_features(texts), hashed_words(texts))


@dataclass(frozen=True, eq=False)
class Scaling:
    """`mean` and `deviation` [F] of the counts it was fitted on; `projection` [F, K] and `phase` [K] of the waves."""

    mean: Floats
    deviation: Floats
    projection: Floats
    phase: Floats

    def inputs(self, signs: Signs) -> Floats:
        """[n, W + F + K]."""
        standard = np.clip((signs.counts - self.mean) / self.deviation, -CLIP, CLIP)
        waves = np.cos(standard @ self.projection + self.phase) * np.float32(np.sqrt(2 / len(self.phase)))
        return np.hstack([signs.words, COUNT_SCALE * standard, waves]).astype(np.float32)


def fit_scaling(counts: Floats, seed: int) -> Scaling:
    random = np.random.default_rng(seed)
    return Scaling(
        counts.mean(0),
        counts.std(0) + np.float32(1e-3),
        (random.normal(size=(counts.shape[1], WAVES)) * np.sqrt(2 * GAMMA)).astype(np.float32),
        random.uniform(0, 2 * np.pi, WAVES).astype(np.float32),
    )
