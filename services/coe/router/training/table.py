"""A table of prompts with their features and targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router.model import Features
from coe.router.training.data import LabelledPrompt


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """n prompts; a target is the index of a category, or the number of categories for prompts of none."""

    prompts: Sequence[LabelledPrompt]
    features: Features
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Table":
        indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        kept = [self.prompts[row] for row in indices.tolist()]
        return Table(kept, self.features[indices], self.targets[indices])

    def __add__(self, other: "Table") -> "Table":
        mine, theirs = self.features, other.features
        features = Features(
            np.concatenate([mine.embeddings, theirs.embeddings]),
            [*mine.lexical, *theirs.lexical],
            np.concatenate([mine.novelty, theirs.novelty]),
        )
        return Table([*self.prompts, *other.prompts], features, np.concatenate([self.targets, other.targets]))
