"""Hashed lexical features of a text, which complement the encoder's embedding. Pure.

The encoder was trained on English sentences: it knows little about other alphabets or code, and nothing of text outside
its window. Word unigrams and bigrams, pieces of long words, the language, the scripts and the shape of the text make up
for that. Feature names are hashed (Weinberger et al. 2009), so the artifact holds no words.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from coe.router.language import language, scripts

BUCKETS = 1 << 13
MAX_CHARS = 2_000
# Characters per word piece, and the longest ASCII word that is not split into pieces.
PIECE, LONG_WORD = 4, 6
MIN_SCRIPT_SHARE = 0.1
# Shape features count this many times, so that they are not drowned out by the words of a long text.
SHAPE_COUNT = 4

_TOKEN = re.compile(r"[a-z]+|[0-9]+|[\u3040-\u30ff]+|[\u3400-\u9fff]|[^\W\d_]+|[^\w\s]|\n")
_SHAPES = {
    "indented": re.compile(r"^(?: {4}|\t)\S", re.M),
    "braces": re.compile(r"[{}]"),
    "statement end": re.compile(r"[;{]\s*$", re.M),
    "call": re.compile(r"\w\([^)\s]*\)"),
    "snake case": re.compile(r"\b[a-z]+_[a-z]+"),
    "camel case": re.compile(r"\b[a-z]+[A-Z][a-z]+"),
    "angle tag": re.compile(r"</?[a-z]\w*[^<>]*>"),
    "latex": re.compile(r"\\[a-z]+|\$[^$\n]+\$"),
    "equation": re.compile(r"[\w)]\s*[=<>+*/^]\s*[\w(-]"),
    "table": re.compile(r"\S\s*\|\s*\S"),
    "choices": re.compile(r"^\(?[B-D][.):]", re.M),
    "question": re.compile(r"[?？]\s*$"),
    "money": re.compile(r"[$€£¥]\s?\d"),
    "numbers": re.compile(r"\d"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Hashed:
    """A sparse unit vector: float32 `values` at `indices` below BUCKETS."""

    indices: NDArray[np.int64]
    values: NDArray[np.float32]


def lexical(text: str) -> Hashed:
    """Features of one text, weighted by 1 + log(count)."""
    counts = Counter(zlib.crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS for name in _names(text[:MAX_CHARS]))
    indices = np.fromiter(counts.keys(), np.int64, len(counts))
    values = 1 + np.log(np.fromiter(counts.values(), np.float32, len(counts)))
    length = max(float(np.linalg.norm(values)), 1e-6)
    return Hashed(indices, (values / length).astype(np.float32))


def _names(text: str) -> Iterator[str]:
    words = ["0" if token.isdigit() else token for token in _TOKEN.findall(text.lower())]
    yield from words
    for first, second in pairwise(words):
        yield f"{first} {second}"
    for word in set(words):
        if len(word) > LONG_WORD or (len(word) > PIECE and not word.isascii()):
            for start in range(len(word) - PIECE + 1):
                yield f"~{word[start : start + PIECE]}"
    for name in _shape(text):
        for _ in range(SHAPE_COUNT):
            yield f"#{name}"


def _shape(text: str) -> Iterator[str]:
    yield f"language {language(text)}"
    for name, share in scripts(text).items():
        if share >= MIN_SCRIPT_SHARE:
            yield f"script {name}"
    yield f"length {len(text).bit_length()}"
    for name, pattern in _SHAPES.items():
        found = len(pattern.findall(text))
        if found:
            yield f"{name} {min(found.bit_length(), 3)}"
