"""Counted features of a prompt: cues to length, kind and difficulty that a sentence embedding loses. Pure."""

import re
from collections.abc import Sequence
from math import log1p

import numpy as np
from numpy.typing import NDArray

from coe.mapper.chain import Chain, chain_of

# Counted as log(1 + matches). No pattern may look ahead without bound: the sender decides how long and odd a prompt is.
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
    "options": re.compile(r"(?m)^[ \t]{0,16}\(?[0-9A-J][.):]"),
    "bullets": re.compile(r"(?m)^[ \t]{0,16}[*\-]\s"),
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
    "slices": re.compile(r"\[[^\]\n:]{0,40}:[^\]\n]{0,40}\]"),
    "reversals": re.compile(r"\[::?-1\]|reverse|\[-"),
    "gains": re.compile(r"\+=|-=|append|insert|extend|\badd\(|update"),
    "losses": re.compile(r"\.(?:pop|remove|clear|discard)\b|\bdel\b"),
    "edits": re.compile(
        r"split|join|strip|replace|partition|[rl]just|center|zfill|swapcase|title|capital|translate|encode|expandtabs"
    ),
    "searches": re.compile(r"\.(?:r?find|r?index|count|startswith|endswith|is\w{1,10})\("),
    "jumps": re.compile(r"\bwhile\b|\bbreak\b|\bcontinue\b|\btry\b"),
    "walks": re.compile(r"range\(|enumerate|zip\(|len\("),
    "tables": re.compile(r"\{|dict|\.items|\.keys|\.get\("),
    "orders": re.compile(r"lambda|sorted|\bsort\(|\bmax\(|\bmin\(|\bsum\("),
    "other_scripts": re.compile(r"[^\x00-\u024f\u2000-\u206f぀-ヿ一-鿿]"),
}  # fmt: skip
NAMES: tuple[str, ...] = (
    *PATTERNS, "characters", "largest_number", "word_length", "distinct_words", "distinct_numbers", "capitals",
    "indentation", "longest_line", "loop_depth", "longest_string", "quoted", "identifiers",
    "last_line", "last_commas", "last_digits", "last_signs", "last_quoted",
    *(f"chain_{name}" for name in Chain.__slots__),
)  # fmt: skip
QUOTED = PATTERNS["strings"]
LOOP = re.compile(r"\s*(?:for|while)\b")
# Characters read; the rest of a text is ignored.
MAX_CHARS = 16_384
MAX_NUMBER = 1e9


def text_features(texts: Sequence[str]) -> NDArray[np.float32]:
    """Features float32 [texts, len(NAMES)], finite for any text.

    Except for the chain features, each is a logarithm, a share or a scaled mean, so that sizes are comparable.
    """
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
        *map(log1p, _layout(text)),
        *chain_of(text).figures(),
    ]


def _layout(text: str) -> list[int]:
    """Cues to how long a program runs and on how much data: depth, literals, and the last line with a parenthesis."""
    lines = [line for line in text.split("\n") if line.strip()] or [""]
    depth = [len(line) - len(line.lstrip()) for line in lines]
    quoted = [len(found) - 2 for found in QUOTED.findall(text)]
    last = next((line for line in reversed(lines) if "(" in line), "")
    return [
        max(depth),
        max(map(len, lines)),
        max((indent for indent, line in zip(depth, lines, strict=True) if LOOP.match(line)), default=0),
        max(quoted, default=0),
        sum(quoted),
        len(set(re.findall(r"[A-Za-z_]\w*", text))),
        len(last),
        last.count(","),
        sum(map(str.isdigit, last)),
        len(re.findall(r"[^\w\s]", last)),
        sum(len(found) - 2 for found in QUOTED.findall(last)),
    ]
