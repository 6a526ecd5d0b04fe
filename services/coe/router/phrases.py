"""Phrases that try to take a model over ("ignore all previous instructions"), wherever in the text. Pure.

Each word, pair of words and pair with a gap has a weight, learnt from such phrases against ordinary sentences. The
score is the largest sum over a few words in a row: an ordinary prompt before or after the phrase takes nothing from it.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BUCKETS = 1 << 13
# Words in a row that are summed, and so many scores.
SPANS = (10, 24)
FEATURES = tuple(f"phrase of {span} words" for span in SPANS)
# Of a long text the start and the end are read.
START, END = 1_400, 600
NONE = -10.0

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{1,2}|[^\W\d_]+|[^\w\s]")


@dataclass(frozen=True, slots=True, eq=False)
class Phrases:
    """Weights of hashed words and pairs [BUCKETS]."""

    weight: Floats
    bias: float

    def features(self, text: str) -> list[float]:
        """The values that FEATURES names: log odds of the likeliest phrase."""
        words = tokens(text)
        if not words:
            return [NONE] * len(SPANS)
        each = self._log_odds(words)
        return [float(_sums(each, span).max()) + self.bias for span in SPANS]

    def likeliest(self, text: str, span: int) -> list[str]:
        """The phrase of at most `span` words that scores highest."""
        words = tokens(text)
        if not words:
            return []
        start = int(_sums(self._log_odds(words), span).argmax())
        return words[start : start + span]

    def _log_odds(self, words: Sequence[str]) -> NDArray[np.float64]:
        """What each word adds, with the pairs that it ends."""
        each = self.weight[buckets("", words)].astype(np.float64)
        each[1:] += self.weight[buckets(" ", words, words[1:])]
        each[2:] += self.weight[buckets("  ", words, words[2:])]
        return each


def _sums(each: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """Of every `span` values in a row, or of all when there are fewer."""
    span = min(span, len(each))
    total = np.concatenate([[0.0], np.cumsum(each)])
    sums: NDArray[np.float64] = total[span:] - total[:-span]
    return sums


def tokens(text: str) -> list[str]:
    """Words and signs, of scripts without spaces two characters; of a long text those of its start and end."""
    read = text if len(text) <= START + END else f"{text[:START]}\n{text[-END:]}"
    return _TOKEN.findall(read.lower())


def buckets(kind: str, *words: Sequence[str]) -> Ints:
    """Of each word, or of each word with one that follows it."""
    names = [kind.join(group) for group in zip(*words, strict=False)]
    return np.array([zlib.crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS for name in names], np.int64)
