"""Texts to features, with the embeddings from the cache."""

from collections.abc import Callable, Sequence

import numpy as np

from coe.encoder import EmbeddingCache
from coe.router.features import lexical
from coe.router.model import Features
from coe.router.novelty import Spelling

Progress = Callable[[str, int, int], None]


class Featuriser:
    """`progress(what, done, total)` is called now and then."""

    def __init__(self, cache: EmbeddingCache, spelling: Spelling, progress: Progress) -> None:
        self._cache = cache
        self._spelling = spelling
        self._progress = progress

    def __call__(self, texts: Sequence[str]) -> Features:
        embeddings = self._cache.encode(texts, lambda done, total: self._progress("Encoding prompts", done, total))
        words = []
        for done, text in enumerate(texts, 1):
            words.append(lexical(text))
            if done % 500 == 0 or done == len(texts):
                self._progress("Counting words", done, len(texts))
        spelling = np.stack([self._spelling.features(text) for text in texts])
        return Features(embeddings, words, spelling)
