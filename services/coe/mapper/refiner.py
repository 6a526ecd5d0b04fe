"""Prompt to the part of its category that the mapping's table has a row for: learned from outcomes, small, numpy only.

Within a category, prompts differ in how well each expert does on them. Linear heads over the prompt's embedding and
its counted features predict each expert's deviation from the category's mean; prompts whose predicted deviations are
alike form a part. The mapping then treats parts as it treats categories: rows of a table, solved by the same programme.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.mapper.text_features import text_features

Floats = NDArray[np.float32]

# Features are clipped at so many standard deviations: one odd prompt must not be extrapolated.
CLIP = 4.0
# What embeddings (unit length) and standardised features are multiplied by, so that one ridge penalty suits both.
EMBEDDING_SCALE = 0.7
FEATURE_SCALE = 0.1


@dataclass(frozen=True, eq=False)
class Refiner:
    """For C cells, M experts, D embedding dimensions and F features; `parts[c]` names the parts of cell c."""

    cells: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    cell_weight: Floats  # [C, D]
    cell_bias: Floats  # [C]
    feature_mean: Floats  # [F]
    feature_deviation: Floats  # [F]
    weight: Floats  # [D + F, M], predicted deviation of each expert
    offset: Floats  # [C, M], subtracted before `calibration`
    calibration: Floats  # [C, M, M]
    centroids: tuple[Floats, ...]  # per cell [parts, M]

    def has(self, category: str) -> bool:
        """Whether there are cells of this category."""
        return bool(self._inside(category))

    def refine(self, category: str, texts: Sequence[str], embeddings: Floats) -> list[str]:
        """The part of each text that is known to be of this category, which must have cells."""
        return self.parts_of(text_features(texts), embeddings, self._inside(category))

    def _inside(self, category: str) -> list[int]:
        return [row for row, cell in enumerate(self.cells) if cell == category or cell.startswith(f"{category}/")]

    def parts_of(self, features: Floats, embeddings: Floats, inside: Sequence[int] | None = None) -> list[str]:
        """Part names, over all cells or those `inside`. Features [n, F], embeddings [n, D]."""
        cells = self.cell_of(embeddings, inside)
        deviations = self.deviations(features, embeddings, cells)
        names = []
        for cell, deviation in zip(cells, deviations, strict=True):
            distance = ((self.centroids[cell] - deviation) ** 2).sum(1)
            names.append(self.parts[cell][int(distance.argmin())])
        return names

    def cell_of(self, embeddings: Floats, inside: Sequence[int] | None = None) -> NDArray[np.int64]:
        """The likeliest cell of each embedding."""
        logits = embeddings @ self.cell_weight.T + self.cell_bias
        if inside is not None:
            allowed = np.full(len(self.cells), -np.inf, np.float32)
            allowed[list(inside)] = 0.0
            logits = logits + allowed
        chosen: NDArray[np.int64] = logits.argmax(1)
        return chosen

    def deviations(self, features: Floats, embeddings: Floats, cells: NDArray[np.int64]) -> Floats:
        """Calibrated deviations of the experts' scores from their means in the cell [n, M]."""
        raw = design(features, embeddings, self.feature_mean, self.feature_deviation) @ self.weight
        centred = raw - self.offset[cells]
        result: Floats = np.einsum("nm,nmk->nk", centred, self.calibration[cells]).astype(np.float32)
        return result


def design(features: Floats, embeddings: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Inputs of the linear heads [n, D + F]."""
    standard = np.clip((features - mean) / deviation, -CLIP, CLIP)
    return np.hstack([EMBEDDING_SCALE * embeddings, FEATURE_SCALE * standard]).astype(np.float32)
