"""Turns texts into features, taking embeddings from the cache."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from coe.encoder import EmbeddingCache
from coe.router.features import lexical
from coe.router.model import Features

Progress = Callable[[str, int, int], None]


class Featuriser:
    """Computes features and calls `progress(what, done, total)` periodically."""

    def __init__(self, cache: EmbeddingCache, progress: Progress) -> None:
        self._cache = cache
        self._progress = progress

    def __call__(self, texts: Sequence[str], novelty: NDArray[np.float32]) -> Features:
        """Features of `texts`, whose novelty features are given."""
        embeddings = self._cache.encode(texts, lambda done, total: self._progress("Encoding prompts", done, total))
        words = []
        for done, text in enumerate(texts, 1):
            words.append(lexical(text))
            if done % 500 == 0 or done == len(texts):
                self._progress("Counting words", done, len(texts))
        return Features(embeddings, words, novelty)
