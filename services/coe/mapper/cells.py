"""The cells that a refiner distinguishes, and the linear heads that predict them. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Ridge penalty on the heads' weights, for inputs of about unit length.
PENALTY = 0.5


@dataclass(frozen=True, eq=False)
class CellHeads:
    names: tuple[str, ...]
    weight: Floats  # [C, D]
    bias: Floats  # [C]

    def inside(self, category: str) -> list[int]:
        """Indices of the cells of a category: the category itself and its named parts."""
        return [row for row, name in enumerate(self.names) if name == category or name.startswith(f"{category}/")]

    def predict(self, inputs: Floats, inside: Sequence[int] | None = None) -> NDArray[np.int64]:
        """Index of the likeliest cell of each prompt, among all cells or those `inside`."""
        values = inputs @ self.weight.T + self.bias
        if inside is not None:
            allowed = np.full(len(self.names), -np.inf, np.float32)
            allowed[list(inside)] = 0.0
            values = values + allowed
        best: NDArray[np.int64] = values.argmax(1)
        return best


def cell_names(categories: Sequence[str], min_cell: int) -> list[str]:
    """The cell of each prompt: its full name (`math/grade-school`) if at least `min_cell` prompts share it.

    Otherwise it is the category alone (`math`).
    """
    sizes = Counter(categories)
    return [name if sizes[name] >= min_cell else name.split("/")[0] for name in categories]


def fit_cells(inputs: Floats, names: Sequence[str]) -> CellHeads:
    """Fits one ridge regression per cell, with target 1 inside and -1 outside; a single cell needs none."""
    distinct = tuple(sorted(set(names)))
    if len(distinct) == 1:
        return CellHeads(distinct, np.zeros((1, inputs.shape[1]), np.float32), np.zeros(1, np.float32))
    targets = np.where(np.array(names)[:, None] == np.array(distinct)[None, :], 1.0, -1.0)
    centre, level = inputs.mean(0), targets.mean(0).astype(np.float32)
    weight = _ridge(inputs - centre, targets.astype(np.float32) - level).T
    return CellHeads(distinct, weight, level - weight @ centre)


def _ridge(inputs: Floats, targets: Floats) -> Floats:
    """Ridge weights [D, C], from the smaller of the two equivalent systems (primal or dual)."""
    prompts, width = inputs.shape
    wide = width > prompts
    gram = inputs @ inputs.T if wide else inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += PENALTY
    solved: Floats = inputs.T @ np.linalg.solve(gram, targets) if wide else np.linalg.solve(gram, inputs.T @ targets)
    return solved
