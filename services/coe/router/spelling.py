"""How a text is spelled, against how words are: notices typing errors and alphabets that nobody asks in. Pure."""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from coe.router.language import language, scripts

PIECE_BUCKETS, WORD_BUCKETS = 1 << 17, 1 << 18
MAX_CHARS = 600
# Pieces and words of so few training texts are no evidence of ordinary spelling.
MIN_PIECE_TEXTS, MIN_WORD_TEXTS = 3, 2
# Shorter words are too easily right by chance, and every list of words lacks some.
MIN_LETTERS = 4
# With fewer plain words than these all words are looked at.
MIN_PLAIN = 3
ENDINGS = ("s", "es", "d", "ed", "r", "er", "ing", "ly")
FEATURES = ("unseen pieces", "unseen English words", "unseen other words", "mixed scripts", "odd symbols")

_WORD = re.compile(r"[^\W\d_]+")
_LONG = re.compile(r"[^\W\d_]{4,}")
# Words as people type them: no names, identifiers, commands or markup.
_PLAIN = re.compile(r"(?<![\w\\$@#/_.&<{'’-])[^\W\d_A-ZÀ-Þ]{4,}(?![\w(/\\=@<{\[]|[.-]\w)")
# Scripts that write without spaces: what stands between two of them is no word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_ODD = re.compile(r"[^\w\s.,;:!?'\"()\[\]{}<>=+*/$%&#@|\\^~`—–’“”。、，？！：；「」（）-]")


@dataclass(frozen=True, slots=True, eq=False)
class Spelling:
    """Hashed pieces of words [PIECE_BUCKETS] and words [WORD_BUCKETS], true where they are known."""

    pieces: NDArray[np.bool_]
    words: NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Iterable[str], vocabulary: Iterable[str] = ()) -> "Spelling":
        """What several `texts` have, and the words of `vocabulary`."""
        pieces, words = np.zeros(PIECE_BUCKETS, np.int32), np.zeros(WORD_BUCKETS, np.int32)
        for text in texts:
            found = _WORD.findall(text[:MAX_CHARS].lower())
            pieces[list({bucket for word in found for bucket in _pieces_of(word)})] += 1
            words[list({_bucket(word, WORD_BUCKETS) for word in found if len(word) >= MIN_LETTERS})] += 1
        words[[_bucket(word, WORD_BUCKETS) for word in vocabulary if _LONG.fullmatch(word)]] += MIN_WORD_TEXTS
        return cls(pieces >= MIN_PIECE_TEXTS, words >= MIN_WORD_TEXTS)

    def features(self, text: str) -> list[float]:
        """The values that FEATURES names, each between 0 and 1, of a text of at most MAX_CHARS."""
        words = _WORD.findall(text.lower())
        buckets = [bucket for word in words for bucket in _pieces_of(word)]
        pieces = float(1 - self.pieces[buckets].mean()) if buckets else 0.0
        unseen = self._unseen_words(text)
        english = language(text) in ("en", "")
        mixed = 1 - max(scripts(text).values(), default=1.0)
        odd = len(_ODD.findall(text)) / max(sum(map(len, words)), 1)
        return [pieces, unseen * english, unseen * (not english), mixed, min(odd, 1.0)]

    def _unseen_words(self, text: str) -> float:
        """Share of the words that nobody is known to use; two are added, for a few words say little."""
        plain = [word for word in _PLAIN.findall(text) if not _UNSPACED.search(word)]
        if len(plain) < MIN_PLAIN:
            plain = [word for word in _LONG.findall(text.lower()) if not _UNSPACED.search(word)]
        return sum(not self._knows(word) for word in plain) / (len(plain) + 2)

    def _knows(self, word: str) -> bool:
        """The word, or what it was before an ending of English."""
        stems = [word, *(word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending))]
        return any(self.words[_bucket(stem, WORD_BUCKETS)] for stem in stems if len(stem) >= MIN_LETTERS - 1)


# Words come again and again, in a prompt and from one prompt to the next; none is longer than MAX_CHARS.
@lru_cache(maxsize=4096)
def _pieces_of(word: str) -> tuple[int, ...]:
    """Three letters in a row, the ends of a word marked."""
    marked = f"<{word}>"
    return tuple(_bucket(marked[start : start + 3], PIECE_BUCKETS) for start in range(len(marked) - 2))


def _bucket(name: str, buckets: int) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % buckets
