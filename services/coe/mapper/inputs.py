"""Inputs of the response model: a prompt's standardised counts and random Fourier features over them. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Standard deviations at which counts are clipped, so that the model does not extrapolate to odd prompts.
CLIP = 4.0
# Scales standardised counts to match the waves, of about unit length, so that one penalty suits both.
COUNT_SCALE = 0.1
# Random Fourier features (Rahimi and Recht 2007) of a Gaussian kernel exp(-GAMMA * distance²) over the counts.
GAMMA = 0.03
WAVES = 300


@dataclass(frozen=True, eq=False)
class Scaling:
    """Turns counts into inputs.

    `mean` and `deviation` [F] are those of the training counts; `projection` [F, K] and `phase` [K] define the waves.
    """

    mean: Floats
    deviation: Floats
    projection: Floats
    phase: Floats

    def inputs(self, counts: Floats) -> Floats:
        """Inputs [n, F + K] from counts [n, F] (see `coe.mapper.text_features`)."""
        standard = np.clip((counts - self.mean) / self.deviation, -CLIP, CLIP)
        waves = np.cos(standard @ self.projection + self.phase) * np.float32(np.sqrt(2 / len(self.phase)))
        return np.hstack([COUNT_SCALE * standard, waves]).astype(np.float32)


def fit_scaling(counts: Floats, seed: int) -> Scaling:
    random = np.random.default_rng(seed)
    return Scaling(
        counts.mean(0),
        counts.std(0) + np.float32(1e-3),
        (random.normal(size=(counts.shape[1], WAVES)) * np.sqrt(2 * GAMMA)).astype(np.float32),
        random.uniform(0, 2 * np.pi, WAVES).astype(np.float32),
    )
