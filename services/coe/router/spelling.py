"""Spelling features: detect typing errors, gibberish and alphabets that prompts rarely use. Pure."""

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
# A piece or a word counts as known when at least this many training texts contain it.
MIN_PIECE_TEXTS, MIN_WORD_TEXTS = 3, 2
# Shorter words are ignored: a misspelt one is often a word by chance, and every word list lacks some.
MIN_LETTERS = 4
# With fewer plain words than this, all words are considered.
MIN_PLAIN = 3
ENDINGS = ("s", "es", "d", "ed", "r", "er", "ing", "ly")
FEATURES = ("unseen pieces", "unseen English words", "unseen other words", "mixed scripts", "odd symbols")

_WORD = re.compile(r"[^\W\d_]+")
_LONG = re.compile(r"[^\W\d_]{4,}")
# Ordinary lower-case words: no names, identifiers, commands or markup.
_PLAIN = re.compile(r"(?<![\w\\$@#/_.&<{'’-])[^\W\d_A-ZÀ-Þ]{4,}(?![\w(/\\=@<{\[]|[.-]\w)")
# Scripts without spaces between words: a run of letters in them is not a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_ODD = re.compile(r"[^\w\s.,;:!?'\"()\[\]{}<>=+*/$%&#@|\\^~`—–’“”。、，？！：；「」（）-]")


@dataclass(frozen=True, slots=True, eq=False)
class Spelling:
    """Hash tables of word pieces [PIECE_BUCKETS] and words [WORD_BUCKETS]: true where known."""

    pieces: NDArray[np.bool_]
    words: NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Iterable[str], vocabulary: Iterable[str] = ()) -> "Spelling":
        """Learns the pieces and words that enough of `texts` contain, and all words of `vocabulary`."""
        pieces, words = np.zeros(PIECE_BUCKETS, np.int32), np.zeros(WORD_BUCKETS, np.int32)
        for text in texts:
            found = _WORD.findall(text[:MAX_CHARS].lower())
            pieces[list({bucket for word in found for bucket in _pieces_of(word)})] += 1
            words[list({_bucket(word, WORD_BUCKETS) for word in found if len(word) >= MIN_LETTERS})] += 1
        words[[_bucket(word, WORD_BUCKETS) for word in vocabulary if _LONG.fullmatch(word)]] += MIN_WORD_TEXTS
        return cls(pieces >= MIN_PIECE_TEXTS, words >= MIN_WORD_TEXTS)

    def features(self, text: str) -> list[float]:
        """The features named by FEATURES, each between 0 and 1, of a text of at most MAX_CHARS."""
        words = _WORD.findall(text.lower())
        buckets = [bucket for word in words for bucket in _pieces_of(word)]
        pieces = float(1 - self.pieces[buckets].mean()) if buckets else 0.0
        unseen = self._unseen_words(text)
        english = language(text) in ("en", "")
        mixed = 1 - max(scripts(text).values(), default=1.0)
        odd = len(_ODD.findall(text)) / max(sum(map(len, words)), 1)
        return [pieces, unseen * english, unseen * (not english), mixed, min(odd, 1.0)]

    def _unseen_words(self, text: str) -> float:
        """Share of unknown words, shrunk towards 0 by two known words, because a few words are weak evidence."""
        plain = [word for word in _PLAIN.findall(text) if not _UNSPACED.search(word)]
        if len(plain) < MIN_PLAIN:
            plain = [word for word in _LONG.findall(text.lower()) if not _UNSPACED.search(word)]
        return sum(not self._knows(word) for word in plain) / (len(plain) + 2)

    def _knows(self, word: str) -> bool:
        """Whether the word is known as it is or without an English ending."""
        stems = [word, *(word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending))]
        return any(self.words[_bucket(stem, WORD_BUCKETS)] for stem in stems if len(stem) >= MIN_LETTERS - 1)


# Cached, because words recur within and across prompts. Entries stay small: no word is longer than MAX_CHARS.
@lru_cache(maxsize=4096)
def _pieces_of(word: str) -> tuple[int, ...]:
    """Buckets of the word's letter trigrams, with word boundaries marked."""
    marked = f"<{word}>"
    return tuple(_bucket(marked[start : start + 3], PIECE_BUCKETS) for start in range(len(marked) - 2))


def _bucket(name: str, buckets: int) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % buckets
