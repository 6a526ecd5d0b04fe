"""Estimates the quality of each expert in each cell (a category or a part of one) from outcomes. Pure.

A small cell is weak evidence, so its mean is shrunk towards a prior: with n outcomes and prior p,
`(sum + k * p) / (n + k)`. The prior is additive, `cell level + expert level`, fitted on all outcomes: an expert that is
strong elsewhere is expected to be strong here until this cell's own outcomes say otherwise.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Weight of the prior, in outcomes (k).
SHRINKAGE = 10.0
# Fewest outcomes of an expert in a cell for it to be chosen there.
MIN_SUPPORT = 8
ROUNDS = 30


@dataclass(frozen=True, eq=False)
class QualityTable:
    """Figures [cells, experts]; `share` [cells] sums to 1. `eligible`: the expert may be chosen in the cell."""

    cells: tuple[str, ...]
    quality: NDArray[np.float64]
    support: NDArray[np.int64]
    share: NDArray[np.float64]
    eligible: NDArray[np.bool_]


def build_table(
    cells: Sequence[str], scores: NDArray[np.float64], *, shrinkage: float = SHRINKAGE, min_support: int = MIN_SUPPORT
) -> QualityTable:
    """Builds the table. `cells` names each prompt's cell; `scores` is [prompts, experts], NaN where not run."""
    names = tuple(sorted(set(cells)))
    total, support = counts(cells, scores, names)
    quality = (total + shrinkage * additive_prior(total, support)) / (support + shrinkage)
    seen = Counter(cells)
    share = np.array([seen[name] for name in names]) / len(cells)
    return QualityTable(names, quality, support, share, eligible_pairs(support, min_support))


def counts(
    cells: Sequence[str], scores: NDArray[np.float64], names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The sum of scores and the number of outcomes of each expert in each cell of `names`, both [cells, experts]."""
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of[cell] for cell in cells])
    ran = ~np.isnan(scores)
    support = np.zeros((len(names), scores.shape[1]), np.int64)
    total = np.zeros(support.shape)
    np.add.at(support, rows, ran.astype(np.int64))
    np.add.at(total, rows, np.where(ran, scores, 0.0))
    return total, support


def eligible_pairs(support: NDArray[np.int64], min_support: int) -> NDArray[np.bool_]:
    """Whether each expert has enough outcomes in each cell to be chosen; if none has, those with the most do."""
    enough: NDArray[np.bool_] = support >= np.minimum(min_support, np.maximum(1, support.max(1, keepdims=True)))
    return enough


def additive_prior(total: NDArray[np.float64], support: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cell level plus expert level by least squares over all outcomes, clipped to 0 to 1.

    Sums and counts are [cells, experts].
    """
    count = support.astype(np.float64)
    cell_count = np.maximum(count.sum(1), 1)
    expert_count = np.maximum(count.sum(0), 1)
    cell = total.sum(1) / cell_count
    expert = np.zeros(total.shape[1])
    for _ in range(ROUNDS):
        expert = (total - count * cell[:, None]).sum(0) / expert_count
        cell = (total - count * expert[None, :]).sum(1) / cell_count
    prior: NDArray[np.float64] = np.clip(cell[:, None] + expert[None, :], 0.0, 1.0)
    return prior
