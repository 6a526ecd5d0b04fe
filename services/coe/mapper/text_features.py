"""What can be counted in a prompt: signs of length, of kind and of difficulty that a sentence embedding loses. Pure."""

import re
from collections.abc import Sequence
from math import log1p

import numpy as np
from numpy.typing import NDArray

# Counted as log(1 + matches).
PATTERNS: dict[str, re.Pattern[str]] = {
    "lines": re.compile(r"\n"),
    "words": re.compile(r"\w+"),
    "numbers": re.compile(r"\d+(?:\.\d+)?"),
    "long_numbers": re.compile(r"\d{4,}"),
    "fractions": re.compile(r"\d/\d|\\d?frac"),
    "percent": re.compile(r"%|percent"),
    "money": re.compile(r"[$€£¥]"),
    "latex": re.compile(r"\\[A-Za-z]+"),
    "roots_powers": re.compile(r"sqrt|\^|\*\*"),
    "equations": re.compile(r"="),
    "figures": re.compile(r"\[asy\]|triangle|circle|angle|square|polygon"),
    "chance": re.compile(r"probab|random|chosen|how many ways|expected"),
    "whole_numbers": re.compile(r"integer|digit|prime|divis|remainder|modul"),
    "comparisons": re.compile(r"\b(?:more|less|fewer|times|twice|half|each|per|every|remain\w*|left|total)\b"),
    "questions": re.compile(r"\?"),
    "sentences": re.compile(r"[.!?。？！]"),
    "commas": re.compile(r"[,、，]"),
    "quotes": re.compile(r"[\"'「」]"),
    "brackets": re.compile(r"[\[({]"),
    "colons": re.compile(r":"),
    "options": re.compile(r"(?m)^\s*\(?[0-9A-J][.):]"),
    "bullets": re.compile(r"(?m)^\s*[*\-]\s"),
    "loops": re.compile(r"\b(?:for|while)\b"),
    "branches": re.compile(r"\b(?:if|elif|else|not|and|or)\b"),
    "calls": re.compile(r"\w\("),
    "methods": re.compile(r"\.\w+\("),
    "indexing": re.compile(r"\w\["),
    "returns": re.compile(r"\breturn\b|=>|\bdef\b"),
    "strings": re.compile(r"'[^'\n]*'|\"[^\"\n]*\""),
    "negations": re.compile(r"\b(?:not|no|never|except|without|least|false)\b", re.IGNORECASE),
    "kin": re.compile(r"'s (?:parent|child|sibling|mother|father|sister|brother|aunt|uncle|niece|nephew|grand\w+)"),
    "far_kin": re.compile(r"\b(?:aunt|uncle|niece|nephew|cousin|great grand\w+|grand\w+)\b"),
    "instructions": re.compile(r"\b(?:write|list|explain|describe|compare|give|select|choose|translate)\b", re.I),
    "japanese": re.compile(r"[぀-ヿ]"),
    "han": re.compile(r"[一-鿿]"),
    "other_scripts": re.compile(r"[^\x00-\u024f\u2000-\u206f぀-ヿ一-鿿]"),
}  # fmt: skip
NAMES: tuple[str, ...] = (
    *PATTERNS, "characters", "largest_number", "word_length", "distinct_words", "distinct_numbers", "capitals",
)  # fmt: skip
# Text beyond this is not read.
MAX_CHARS = 16_384
MAX_NUMBER = 1e9


def text_features(texts: Sequence[str]) -> NDArray[np.float32]:
    """Float32 [texts, len(NAMES)], each a logarithm or a share: comparable in size, finite for any text."""
    return np.array([_of(text[:MAX_CHARS]) for text in texts], np.float32).reshape(len(texts), len(NAMES))


def _of(text: str) -> list[float]:
    counts = [log1p(sum(1 for _ in pattern.finditer(text))) for pattern in PATTERNS.values()]
    words = re.findall(r"\w+", text)
    numbers = [min(float(number), MAX_NUMBER) for number in re.findall(r"\d{1,12}(?:\.\d{1,6})?", text)]
    return [
        *counts,
        log1p(len(text)),
        log1p(max(numbers, default=0.0)),
        sum(map(len, words)) / max(1, len(words)) / 5,
        len(set(words)) / max(1, len(words)),
        len(set(numbers)) / max(1, len(numbers)),
        sum(character.isupper() for character in text) / max(1, len(text)) * 5,
    ]
