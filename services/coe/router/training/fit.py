"""Fits the parts of a RouterModel. Deterministic for a given seed; no I/O."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from coe.router import features as words
from coe.router.model import Features, Heads, Neighbours
from coe.router.training.data import LabelledPrompt
from coe.router.training.seeds import SOURCE as SEEDS

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
# Logit of a category without training prompts.
NEVER = -50.0


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Hyperparameters, set by hand and validated on whole held-out sources (docs/routing.md has the figures)."""

    # Inverse L2 regularisation strength of the two heads.
    embedding_c: float = 3.0
    lexical_c: float = 10.0
    # Iteration limit of both heads, well beyond where the held-out figures settle.
    iterations: int = 40
    # Weight of all seeds of a category relative to all its collected prompts.
    seed_weight: float = 1.0
    # Most prompts of one category, source and language that the heads learn from, and that become prototypes.
    per_source: int = 3000
    prototypes: int = 80
    k: int = 30
    sharpness: float = 10.0
    neighbour_share: float = 0.2


def fit_heads(
    features: Features, targets: Labels, prompts: Sequence[LabelledPrompt], categories: int, settings: FitSettings
) -> Heads:
    """Fits both heads, each on its own: fitted jointly, the words would explain away the embedding.

    The target of no category is `categories`, their number. A target that no prompt has is never chosen.
    """
    weight = balance(targets, prompts, settings.seed_weight).astype(np.float32)
    embedding = LogisticRegression(C=settings.embedding_c, max_iter=settings.iterations, tol=1e-3)
    lexical = LogisticRegression(C=settings.lexical_c, max_iter=settings.iterations, tol=1e-3, fit_intercept=False)
    # With more threads than free cores, BLAS spins instead of working.
    with threadpool_limits(1), warnings.catch_warnings():
        # Stopping early is intended.
        warnings.simplefilter("ignore", ConvergenceWarning)
        embedding.fit(features.embeddings, targets, sample_weight=weight)
        lexical.fit(sparse(features), targets, sample_weight=weight)
    heads = Heads(
        np.zeros((categories + 1, features.embeddings.shape[1]), np.float32),
        np.full(categories + 1, NEVER, np.float32),
        np.zeros((words.BUCKETS, categories + 1), np.float32),
    )
    heads.weight[embedding.classes_] = embedding.coef_
    heads.bias[embedding.classes_] = embedding.intercept_
    heads.lexical_weight[:, lexical.classes_] = lexical.coef_.T
    return heads


def sparse(features: Features) -> csr_matrix:
    """The hashed words of all texts as one matrix [n, BUCKETS]."""
    rows = np.repeat(np.arange(len(features.lexical)), [len(text.indices) for text in features.lexical])
    columns = np.concatenate([text.indices for text in features.lexical])
    values = np.concatenate([text.values for text in features.lexical])
    return csr_matrix((values, (rows, columns)), shape=(len(features.lexical), words.BUCKETS), dtype=np.float32)


def balance(targets: Labels, prompts: Sequence[LabelledPrompt], seed_weight: float) -> NDArray[np.float64]:
    """Weights, with mean 1, that give each category the same total.

    Within a category, a source weighs the square root of its size, so that none drowns out the others, and all seeds
    together weigh `seed_weight` times as much as all other prompts.
    """
    groups = [(int(target), prompt.source) for target, prompt in zip(targets, prompts, strict=True)]
    sizes = Counter(groups)
    raw = np.array([sizes[group] ** -0.5 for group in groups])
    seeded = np.array([prompt.source == SEEDS for prompt in prompts])
    weight = np.zeros(len(raw))
    for target in np.unique(targets):
        for mask, share in ((targets == target) & ~seeded, 1.0), ((targets == target) & seeded, seed_weight):
            if mask.any():
                weight[mask] = raw[mask] * share / raw[mask].sum()
        weight[targets == target] /= weight[targets == target].sum()
    even: NDArray[np.float64] = weight / weight.mean()
    return even


def neighbours(
    features: Features, targets: Labels, prompts: Sequence[LabelledPrompt], settings: FitSettings, seed: int
) -> Neighbours:
    """The prototypes: a sample of each category, source and language."""
    chosen = sample(prompts, settings.prototypes, np.random.default_rng(seed), all_seeds=False)
    return Neighbours(features.embeddings[chosen], targets[chosen], settings.k, settings.sharpness)


def sample(prompts: Sequence[LabelledPrompt], most: int, rng: np.random.Generator, *, all_seeds: bool = True) -> Labels:
    """Indices, in order, of at most `most` prompts of each category, source and language.

    `all_seeds`: seeds are not limited.
    """
    taken: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for index in rng.permutation(len(prompts)):
        prompt = prompts[index]
        group = (prompt.domain, prompt.source, prompt.language)
        if taken[group] < most or (all_seeds and prompt.source == SEEDS):
            taken[group] += 1
            kept.append(index)
    return np.sort(np.array(kept, np.int64))


def fit_detector(features: Floats, outside: NDArray[np.bool_], weight: Floats) -> tuple[Floats, float]:
    """Weights and bias of a logistic score that separates outliers from ordinary prompts by features [n, K]."""
    scale = features.std(0) + 1e-6
    head = LogisticRegression(C=1.0, max_iter=500).fit(features / scale, outside, sample_weight=weight)
    return (head.coef_[0] / scale).astype(np.float32), float(head.intercept_[0])
