"""Prompt to the part of its category that the mapping's table has a row for: learned from outcomes, small, numpy only.

Within a category, prompts differ in how well each expert does on them. A response model (`coe.mapper.response`)
predicts that from what the prompt's text shows; prompts for which the same experts are worth the same form a part. The
mapping then treats parts as it treats categories: rows of a table, solved by the same programme.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.mapper.cells import CellHeads
from coe.mapper.inputs import Scaling
from coe.mapper.text_features import text_features

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Refiner:
    """For C cells, M experts and inputs of P figures; `parts[c]` names the parts of cell c."""

    heads: CellHeads  # C cells, over the inputs
    parts: tuple[tuple[str, ...], ...]
    scaling: Scaling
    bias: Floats  # [C, M]
    weight: Floats  # [C, P, M]
    centroids: tuple[Floats, ...]  # per cell [parts, M], of contrasts

    @property
    def cells(self) -> tuple[str, ...]:
        return self.heads.names

    def has(self, category: str) -> bool:
        """Whether there are cells of this category."""
        return bool(self.heads.inside(category))

    def refine(self, category: str, texts: Sequence[str]) -> list[str]:
        """The part of each text that is known to be of this category, which must have cells."""
        inputs = self.scaling.inputs(text_features(texts))
        return self.parts_of(inputs, self.heads.predict(inputs, self.heads.inside(category)))

    def parts_of(self, inputs: Floats, cells: NDArray[np.int64]) -> list[str]:
        """Part names of prompts whose cells are known."""
        wanted = contrasts(self.quality(inputs, cells))
        names = []
        for cell, contrast in zip(cells, wanted, strict=True):
            distance = ((self.centroids[cell] - contrast) ** 2).sum(1)
            names.append(self.parts[cell][int(distance.argmin())])
        return names

    def quality(self, inputs: Floats, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Expected scores of the experts [n, M]."""
        return expected_scores(inputs, cells, self.bias, self.weight)


def expected_scores(
    inputs: Floats, cells: NDArray[np.int64], bias: NDArray[np.floating], weight: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The response model [n, M]: bias [C, M], weight [C, P, M]."""
    logit = np.empty((len(inputs), bias.shape[1]))
    for cell in np.unique(cells):
        rows = cells == cell
        logit[rows] = inputs[rows] @ weight[cell] + bias[cell]
    scores: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return scores


def contrasts(quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences from the mean of the experts: what decides between them."""
    difference: NDArray[np.float64] = quality - quality.mean(1, keepdims=True)
    return difference
