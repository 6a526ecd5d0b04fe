"""Whether a text changes its language on the way. Pure, apart from the library's model of languages."""

import re
from itertools import pairwise
from math import log

import numpy as np

from coe.router.language import LANGUAGES, each_likelihoods, likelihoods

FEATURES = ("language doubt", "language switches", "script switches")
# Characters of a stretch that is taken to be in one language.
STRETCH = 20
# A stretch speaks at most so strongly for a language of its own.
MOST_EVIDENCE = 20.0
SMALLEST = 1e-5

_LETTERS = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
# A few signs that both have do not tell these apart.
_ALIKE = [LANGUAGES.index(code) for code in ("ja", "zh")]


def features(text: str) -> list[float]:
    """The values that FEATURES names.

    Doubt: log of the probability of all languages but the likeliest. Language switches: by how much the stretches of
    the text are likelier when each may have a language of its own, as a mean of log likelihoods. Script switches: share
    of neighbouring words in different scripts.
    """
    doubt = 1 - max(likelihoods(text))
    return [log(max(doubt, SMALLEST)), _language_switches(text), _script_switches(text)]


def _language_switches(text: str) -> float:
    stretches = list(_stretches(text))
    if len(stretches) < 2:
        return 0.0
    # The library divides log likelihoods by this root.
    scale = np.sqrt([len(stretch.encode("utf-8", "surrogatepass")) for stretch in stretches])
    logs = np.log(np.maximum(each_likelihoods(stretches), SMALLEST)) * scale[:, None]
    logs[:, _ALIKE] = logs[:, _ALIKE].max(1, keepdims=True)
    evidence = logs.max(1) - logs[:, logs.sum(0).argmax()]
    return float(np.minimum(evidence, MOST_EVIDENCE).mean())


def _stretches(text: str) -> list[str]:
    """Words, until there are STRETCH characters; text without spaces is cut."""
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
    """Latin, whether wide or with accents, is one; what East Asia writes is one; else the block of 256 code points."""
    point = ord(letter)
    if point < 0x250 or 0x1E00 <= point <= 0x1EFF or 0xFF21 <= point <= 0xFF5A:
        return 0
    return 1 if _UNSPACED.match(letter) else point >> 8
