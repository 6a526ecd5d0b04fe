"""Assigns a prompt to a part of its category. Learned from outcomes; needs only NumPy.

Within a category, experts do better on some prompts than on others. A response model (`coe.mapper.response`) predicts
each expert's score from features of the prompt's text; prompts with similar differences between the experts form a
part. The mapping treats parts like categories: as rows of its table, solved by the same program.
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
    """A trained refiner of C cells and M experts over P inputs. `parts[c]` names the parts of cell c."""

    heads: CellHeads  # C cells, over the inputs
    parts: tuple[tuple[str, ...], ...]
    scaling: Scaling
    bias: Floats  # [C, M]
    weight: Floats  # [C, P, M]
    centroids: tuple[Floats, ...]  # per cell: centroids of contrasts [parts, M]

    @property
    def cells(self) -> tuple[str, ...]:
        return self.heads.names

    def has(self, category: str) -> bool:
        """Whether the refiner has cells of this category."""
        return bool(self.heads.inside(category))

    def refine(self, category: str, texts: Sequence[str]) -> list[str]:
        """The part of each text, all of this category, which must have cells."""
        inputs = self.scaling.inputs(text_features(texts))
        return self.parts_of(inputs, self.heads.predict(inputs, self.heads.inside(category)))

    def parts_of(self, inputs: Floats, cells: NDArray[np.int64]) -> list[str]:
        """The names of the parts of prompts whose cells are given."""
        wanted = contrasts(self.quality(inputs, cells))
        names = []
        for cell, contrast in zip(cells, wanted, strict=True):
            distance = ((self.centroids[cell] - contrast) ** 2).sum(1)
            names.append(self.parts[cell][int(distance.argmin())])
        return names

    def quality(self, inputs: Floats, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Expected scores [n, M] of the experts on prompts whose cells are given."""
        return expected_scores(inputs, cells, self.bias, self.weight)


def expected_scores(
    inputs: Floats, cells: NDArray[np.int64], bias: NDArray[np.floating], weight: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Expected scores [n, M] by the response model, with bias [C, M] and weight [C, P, M]."""
    logit = np.empty((len(inputs), bias.shape[1]))
    for cell in np.unique(cells):
        rows = cells == cell
        logit[rows] = inputs[rows] @ weight[cell] + bias[cell]
    scores: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return scores


def contrasts(quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences from the mean over experts, which are what the choice between experts depends on."""
    difference: NDArray[np.float64] = quality - quality.mean(1, keepdims=True)
    return difference
