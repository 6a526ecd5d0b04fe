"""How a text is spelled, against how the training texts were: notices noise that an English encoder does not. Pure."""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from coe.router.language import scripts

BUCKETS = 1 << 17
MAX_CHARS = 600
# Pieces that so few training texts had are no evidence of ordinary spelling.
MIN_TEXTS = 3
FEATURES = ("unseen pieces", "unseen words", "mixed scripts", "odd symbols")

_WORD = re.compile(r"[^\W\d_]+")
_ODD = re.compile(r"[^\w\s.,;:!?'\"()\[\]{}<>=+*/$%&#@|\\^~`—–’“”。、，？！：；「」（）-]")


@dataclass(frozen=True, slots=True, eq=False)
class Spelling:
    """Hashed pieces of words that training texts had: bool [BUCKETS]."""

    known: NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Spelling":
        counts = np.zeros(BUCKETS, np.int32)
        for text in texts:
            words = _words(text)
            for bucket in {*_pieces(words), *_whole(words)}:
                counts[bucket] += 1
        return cls(counts >= MIN_TEXTS)

    def features(self, text: str) -> NDArray[np.float32]:
        """The values that FEATURES names, each between 0 and 1."""
        words = _words(text)
        shares = scripts(text)
        letters = max(sum(map(len, words)), 1)
        odd = len(_ODD.findall(text[:MAX_CHARS])) / letters
        mixed = 1 - max(shares.values(), default=1.0)
        return np.array([self._unseen(_pieces(words)), self._unseen(_whole(words)), mixed, min(odd, 1.0)], np.float32)

    def _unseen(self, buckets: list[int]) -> float:
        return float(1 - self.known[buckets].mean()) if buckets else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:MAX_CHARS].lower())


def _pieces(words: list[str]) -> list[int]:
    """Three letters in a row, the ends of a word marked."""
    return [bucket for word in words for bucket in _pieces_of(word)]


# Words come again and again, in a prompt and from one prompt to the next; none is longer than MAX_CHARS.
@lru_cache(maxsize=4096)
def _pieces_of(word: str) -> tuple[int, ...]:
    marked = f"<{word}>"
    return tuple(_bucket(marked[start : start + 3]) for start in range(len(marked) - 2))


def _whole(words: list[str]) -> list[int]:
    return [_bucket(f"word {word}") for word in words]


def _bucket(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS
