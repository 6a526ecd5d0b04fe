"""Validation on whole held-out sources: what the router does with prompts from a place it has never seen.

A random split overstates accuracy, because prompts of one source share templates. So each source of a category that
has other sources is left out in turn, and each language of a category of many languages.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router.model import Features, Heads, Neighbours, outlier_features
from coe.router.training.data import LabelledPrompt
from coe.router.training.featurise import Progress
from coe.router.training.fit import FitSettings, fit_heads, neighbours, sample
from coe.router.training.seeds import SOURCE as SEEDS

Floats = NDArray[np.float32]
# Enough of a source to judge it by, and to learn from while another one is left out.
MOST_TESTED, MOST_TRAINED = 500, 300
# A category in so many languages is split by language instead; every other one is left out, to save time.
MANY_LANGUAGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Raw scores of prompts that the model had not seen. `group` names the source that was left out."""

    logits: Floats
    votes: Floats
    distance: Floats
    outlier: Floats
    targets: NDArray[np.int64]
    group: NDArray[np.str_]

    def accuracy(self) -> dict[str, float]:
        """Share of right best categories, by group."""
        right = self.logits.argmax(1) == self.targets
        return {str(name): float(right[self.group == name].mean()) for name in np.unique(self.group)}


def folds(prompts: Sequence[LabelledPrompt]) -> dict[str, NDArray[np.bool_]]:
    """Which prompts each fold leaves out, by name."""
    sources: dict[str, set[str]] = {}
    languages: dict[str, set[str]] = {}
    for prompt in prompts:
        if prompt.source != SEEDS:
            sources.setdefault(prompt.domain, set()).add(prompt.source)
            languages.setdefault(prompt.domain, set()).add(prompt.language)
    found: dict[str, NDArray[np.bool_]] = {}
    for domain, names in sorted(sources.items()):
        if len(names) > 1:
            found |= {f"{domain}: {name}": _mask(prompts, domain, source=name) for name in sorted(names)}
        elif len(languages[domain]) >= MANY_LANGUAGES:
            codes = sorted(languages[domain])[1::2]
            found |= {f"{domain}: {code}": _mask(prompts, domain, language=code) for code in codes}
    return found


def _mask(
    prompts: Sequence[LabelledPrompt], domain: str, source: str | None = None, language: str | None = None
) -> NDArray[np.bool_]:
    return np.array(
        [
            prompt.source != SEEDS
            and prompt.domain == domain
            and source in (None, prompt.source)
            and language in (None, prompt.language)
            for prompt in prompts
        ]
    )


def leave_sources_out(
    features: Features,
    targets: NDArray[np.int64],
    prompts: Sequence[LabelledPrompt],
    categories: int,
    settings: FitSettings,
    seed: int,
    progress: Progress,
) -> HeldOut:
    """Scores of every fold, by models that never saw it."""
    rng = np.random.default_rng(seed)
    parts: list[HeldOut] = []
    every = folds(prompts)
    for number, (name, mask) in enumerate(every.items(), 1):
        tested = rng.permutation(np.flatnonzero(mask))[:MOST_TESTED]
        rest = np.flatnonzero(~mask)
        rest = rest[sample([prompts[row] for row in rest.tolist()], MOST_TRAINED, rng)]
        known = [prompts[row] for row in rest.tolist()]
        if len(Counter(targets[rest].tolist())) == categories:
            heads = fit_heads(features[rest], targets[rest], known, categories, settings)
            near = neighbours(features[rest], targets[rest], known, settings, seed)
            parts.append(scored(heads, near, features[tested], targets[tested], group=name))
        progress("Leaving sources out", number, len(every))
    return _join(parts)


def scored(heads: Heads, near: Neighbours, features: Features, targets: NDArray[np.int64], *, group: str) -> HeldOut:
    """Scores of prompts that neither the heads nor the neighbours were made from."""
    logits = heads.logits(features)
    votes, distance = near.votes(features.embeddings, heads.weight.shape[0])
    strange = outlier_features(logits, distance, features.spelling)
    return HeldOut(logits, votes, distance, strange, targets, np.full(len(logits), group))


def _join(parts: Sequence[HeldOut]) -> HeldOut:
    return HeldOut(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.votes for part in parts]),
        np.concatenate([part.distance for part in parts]),
        np.concatenate([part.outlier for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.group for part in parts]),
    )
