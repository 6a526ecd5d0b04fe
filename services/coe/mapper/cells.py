"""Which cells a refiner tells apart, and the linear heads that do. Needs scikit-learn to fit. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Inverse strength of the logistic heads' regularisation, for unit embeddings.
STRENGTH = 20.0


@dataclass(frozen=True, eq=False)
class CellHeads:
    names: tuple[str, ...]
    weight: Floats  # [C, D]
    bias: Floats  # [C]

    def predict(self, embeddings: Floats) -> NDArray[np.int64]:
        """Index of the likeliest cell of each embedding."""
        best: NDArray[np.int64] = (embeddings @ self.weight.T + self.bias).argmax(1)
        return best


def cell_names(categories: Sequence[str], min_cell: int) -> list[str]:
    """The whole name (`math/grade-school`) where enough prompts have it, else the category alone (`math`)."""
    sizes = Counter(categories)
    return [name if sizes[name] >= min_cell else name.split("/")[0] for name in categories]


def fit_cells(embeddings: Floats, names: Sequence[str], seed: int) -> CellHeads:
    """Multinomial logistic regression; a single name needs none."""
    from sklearn.linear_model import LogisticRegression

    distinct = tuple(sorted(set(names)))
    if len(distinct) == 1:
        return CellHeads(distinct, np.zeros((1, embeddings.shape[1]), np.float32), np.zeros(1, np.float32))
    fitted = LogisticRegression(C=STRENGTH, max_iter=400, random_state=seed).fit(embeddings, list(names))
    weight, bias = fitted.coef_, fitted.intercept_
    if len(distinct) == 2:
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return CellHeads(tuple(map(str, fitted.classes_)), weight.astype(np.float32), bias.astype(np.float32))
