"""Detects prompt-injection phrases ("ignore all previous instructions") anywhere in a text. Pure.

Each word, word pair and word pair with a gap has a weight, learnt from such phrases against ordinary sentences. The
score is the largest sum over a window of a few words, so an ordinary prompt around the phrase does not dilute it.
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
# Window lengths in words; each gives one score.
SPANS = (10, 24)
FEATURES = tuple(f"phrase of {span} words" for span in SPANS)
# Characters read at the start and at the end of a long text.
START, END = 1_400, 600
NONE = -10.0

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{1,2}|[^\W\d_]+|[^\w\s]")


@dataclass(frozen=True, slots=True, eq=False)
class Phrases:
    """Weights [BUCKETS] of hashed words and word pairs."""

    weight: Floats
    bias: float

    def features(self, text: str) -> list[float]:
        """The features named by FEATURES: the log odds of the likeliest phrase of each window length."""
        words = tokens(text)
        if not words:
            return [NONE] * len(SPANS)
        each = self._log_odds(words)
        return [float(_sums(each, span).max()) + self.bias for span in SPANS]

    def likeliest(self, text: str, span: int) -> list[str]:
        """The highest-scoring phrase of `span` words, or the whole text when it is shorter."""
        words = tokens(text)
        if not words:
            return []
        start = int(_sums(self._log_odds(words), span).argmax())
        return words[start : start + span]

    def _log_odds(self, words: Sequence[str]) -> NDArray[np.float64]:
        """The contribution of each word, including the pairs that it completes."""
        each = self.weight[buckets("", words)].astype(np.float64)
        each[1:] += self.weight[buckets(" ", words, words[1:])]
        each[2:] += self.weight[buckets("  ", words, words[2:])]
        return each


def _sums(each: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """Sums of every `span` consecutive values, or the sum of all when there are fewer."""
    span = min(span, len(each))
    total = np.concatenate([[0.0], np.cumsum(each)])
    sums: NDArray[np.float64] = total[span:] - total[:-span]
    return sums


def tokens(text: str) -> list[str]:
    """Words and punctuation marks; up to two characters each in scripts without spaces.

    A long text gives only those of its start and its end.
    """
    read = text if len(text) <= START + END else f"{text[:START]}\n{text[-END:]}"
    return _TOKEN.findall(read.lower())


def buckets(kind: str, *words: Sequence[str]) -> Ints:
    """The bucket of each word, or, given two sequences, of each pair of words in the same place, joined by `kind`."""
    names = [kind.join(group) for group in zip(*words, strict=False)]
    return np.array([zlib.crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS for name in names], np.int64)
