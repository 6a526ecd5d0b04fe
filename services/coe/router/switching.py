"""Detects texts that switch between languages or scripts. Pure, apart from the library's language model."""

import re
from itertools import pairwise
from math import log

import numpy as np

from coe.router.language import LANGUAGES, each_likelihoods, likelihoods

FEATURES = ("language doubt", "language switches", "script switches")
# Characters per stretch; a stretch is assumed to be in one language.
STRETCH = 20
# Cap on the evidence of one stretch for a language of its own, as a log likelihood ratio.
MOST_EVIDENCE = 20.0
SMALLEST = 1e-5

_LETTERS = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
# Japanese and Chinese share characters, so a short stretch can't tell them apart: they count as one.
_ALIKE = [LANGUAGES.index(code) for code in ("ja", "zh")]


def features(text: str) -> list[float]:
    """The features named by FEATURES.

    Language doubt: log of the total probability of all languages but the likeliest. Language switches: mean log
    likelihood that the text's stretches gain when each may have its own language instead of one for the whole text.
    Script switches: share of adjacent words that are in different scripts.
    """
    doubt = 1 - max(likelihoods(text))
    return [log(max(doubt, SMALLEST)), _language_switches(text), _script_switches(text)]


def _language_switches(text: str) -> float:
    stretches = list(_stretches(text))
    if len(stretches) < 2:
        return 0.0
    # Undoes the library's division of log likelihoods by the root of the length in bytes.
    scale = np.sqrt([len(stretch.encode("utf-8", "surrogatepass")) for stretch in stretches])
    logs = np.log(np.maximum(each_likelihoods(stretches), SMALLEST)) * scale[:, None]
    logs[:, _ALIKE] = logs[:, _ALIKE].max(1, keepdims=True)
    evidence = logs.max(1) - logs[:, logs.sum(0).argmax()]
    return float(np.minimum(evidence, MOST_EVIDENCE).mean())


def _stretches(text: str) -> list[str]:
    """Consecutive words with at least STRETCH characters in all; text without spaces is cut every STRETCH characters.

    A remainder of less than half a stretch is dropped.
    """
    found: list[str] = []
    current = ""
    for word in text.split():
        if not _LETTERS.search(word):
            continue
        if len(word) > STRETCH and _UNSPACED.search(word):
            found += [current] if current else []
            found += [word[start : start + STRETCH] for start in range(0, len(word), STRETCH)]
            current = ""
            continue
        current = f"{current} {word}" if current else word
        if len(current) >= STRETCH:
            found.append(current)
            current = ""
    return [*found, current] if len(current) >= STRETCH // 2 else found


def _script_switches(text: str) -> float:
    kinds = [_script(word[0]) for word in _LETTERS.findall(text) if len(word) > 1 or _UNSPACED.match(word)]
    changes = sum(first != second for first, second in pairwise(kinds))
    return changes / (len(kinds) - 1) if len(kinds) > 2 else 0.0


def _script(letter: str) -> int:
    """A number for the letter's script.

    Latin is one script, accented and full-width letters included; kana and Han are one; any other letter's script is
    its block of 256 code points.
    """
    point = ord(letter)
    if point < 0x250 or 0x1E00 <= point <= 0x1EFF or 0xFF21 <= point <= 0xFF5A:
        return 0
    return 1 if _UNSPACED.match(letter) else point >> 8
