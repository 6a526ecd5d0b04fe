"""Scores prompts by models that saw nothing of their kind: the basis of the figures and the calibration."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from coe.router.model import Heads, Neighbours, outlier_features
from coe.router.training.data import LabelledPrompt
from coe.router.training.featurise import Progress
from coe.router.training.fit import FitSettings, fit_heads, neighbours, sample
from coe.router.training.folds import Round
from coe.router.training.table import Table

Floats = NDArray[np.float32]
# Most prompts of a fold to score, and of a category, source and language to learn from while others are left out.
MOST_TESTED, MOST_TRAINED = 250, 250

# Roles: prompts of sources that the model has and has not seen, synthetic outliers, prompts of a category that was left
# out, and prompts of domains that are no category.
SEEN, UNSEEN, NOISE, DOMAIN, OTHER = "seen", "unseen", "noise", "left-out domain", "other domain"


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Scores of n held-out prompts. `target` is -1 for no category; `group` names the source, domain or way."""

    logits: Floats
    votes: Floats
    outlier: Floats
    target: NDArray[np.int64]
    role: NDArray[np.str_]
    group: NDArray[np.str_]

    def __getitem__(self, rows: NDArray[np.bool_]) -> "HeldOut":
        return HeldOut(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.target)


def joined(parts: Sequence[HeldOut]) -> HeldOut:
    return HeldOut(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(HeldOut)))


def scored(heads: Heads, near: Neighbours, table: Table, role: str) -> HeldOut:
    """Scores of prompts that neither the heads nor the neighbours learnt from."""
    every = heads.logits(table.features)
    categories = every.shape[1] - 1
    votes, distance = near.votes(table.features.embeddings, categories)
    outlier = outlier_features(every, distance, table.features.novelty)
    target = table.targets if role in (SEEN, UNSEEN) else np.full(len(table), -1)
    group = np.array([_group(prompt, role) for prompt in table.prompts])
    return HeldOut(every[:, :-1], votes, outlier, target, np.full(len(table), role), group)


def fit(table: Table, categories: int, settings: FitSettings, seed: int) -> tuple[Heads, Neighbours]:
    """Fits heads and neighbours, usually without the synthetic outliers, whose strangeness shows in the text itself.

    Only if the table has no prompts of other domains do the outliers teach the heads what belongs to no category.
    """
    written = table[np.array([bool(prompt.domain) for prompt in table.prompts])]
    table = written if (written.targets == categories).any() else table
    heads = fit_heads(table.features, table.targets, table.prompts, categories, settings)
    inside = table[table.targets < categories]
    return heads, neighbours(inside.features, inside.targets, inside.prompts, settings, seed)


def leave_out(
    table: Table,
    rounds: Sequence[Round],
    seen: NDArray[np.bool_],
    categories: int,
    settings: FitSettings,
    seed: int,
    progress: Progress,
) -> list[HeldOut]:
    """Scores of each fold by a model that did not see it. No model learns from `seen` prompts."""
    parts: list[HeldOut] = []
    labelled = table.targets < categories
    for number, one in enumerate(rounds, 1):
        rng = np.random.default_rng([seed, number])
        hidden = np.array([any(fold.hides(prompt) for fold in one.folds) for prompt in table.prompts]) & labelled
        strange = np.array([prompt.source in one.strangers for prompt in table.prompts]) & ~labelled
        rest = np.flatnonzero(~hidden & ~strange & ~seen)
        rest = rest[sample([table.prompts[row] for row in rest.tolist()], MOST_TRAINED, rng)]
        heads, near = fit(table[rest], categories, settings, seed)
        for fold in one.folds:
            mine = np.array([fold.holds(prompt) for prompt in table.prompts]) & labelled
            tested = table[rng.permutation(np.flatnonzero(mine))[:MOST_TESTED]]
            parts.append(scored(heads, near, tested, UNSEEN if fold.source else DOMAIN))
        made = np.array([not prompt.domain for prompt in table.prompts])
        parts += [
            scored(heads, near, table[rows], role)
            for role, rows in ((NOISE, strange & made), (OTHER, strange & ~made))
            if rows.any()
        ]
        progress("Leaving out sources and domains", number, len(rounds))
    return parts


def _group(prompt: LabelledPrompt, role: str) -> str:
    if role == UNSEEN:
        return f"{prompt.domain}: {prompt.source} {prompt.language}".strip()
    return prompt.domain if role == DOMAIN else prompt.source
