"""Identifies the language and the scripts of a text. Pure, apart from the library's model, which is loaded once."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier, visit_counts

# Candidate languages, in the library's order; rarer ones would only be confused with these on short texts.
LANGUAGES = (
    "ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "gu", "he", "hi", "hr", "hu", "id", "it",
    "ja", "ka", "kn", "ko", "ml", "mr", "ms", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sk", "sv", "sw", "ta", "te",
    "th", "tl", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip
SAMPLE_CHARS = 600
MIN_PROBABILITY = 0.5

_SCRIPTS = {
    "latin": r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]",
    "cyrillic": r"[\u0400-\u04ff]",
    "greek": r"[\u0370-\u03ff]",
    "kana": r"[\u3040-\u30ff]",
    "han": r"[\u3400-\u9fff]",
    "hangul": r"[\uac00-\ud7af\u1100-\u11ff]",
    "arabic": r"[\u0600-\u06ff]",
    "hebrew": r"[\u0590-\u05ff]",
    "devanagari": r"[\u0900-\u097f]",
    "bengali": r"[\u0980-\u09ff]",
    "indic": r"[\u0a00-\u0dff]",
    "thai": r"[\u0e00-\u0e7f]",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _SCRIPTS.items()}
_LETTER = re.compile(r"[^\W\d_]")


def scripts(text: str) -> dict[str, float]:
    """Share of each script among the letters at the start of the text; empty when there are no letters."""
    sample = text[:SAMPLE_CHARS]
    letters = len(_LETTER.findall(sample))
    if not letters:
        return {}
    if sample.isascii():
        return {"latin": 1.0}
    counts = Counter({name: len(pattern.findall(sample)) for name, pattern in _PATTERNS.items()})
    return {name: min(count / letters, 1.0) for name, count in counts.items() if count}


# Cached, because both the features and the decision of a prompt need it.
@lru_cache(maxsize=64)
def language(text: str) -> str:
    """BCP 47 code of the language; empty when no language is probable enough."""
    found = likelihoods(text[:SAMPLE_CHARS])
    probability = max(found)
    return LANGUAGES[found.index(probability)] if probability >= MIN_PROBABILITY else ""


@lru_cache(maxsize=64)
def likelihoods(text: str) -> tuple[float, ...]:
    """Probability of each of LANGUAGES, in the same order."""
    return tuple(each_likelihoods([text])[0].tolist())


def each_likelihoods(texts: Sequence[str]) -> NDArray[np.float32]:
    """Probabilities [n, languages] of many short texts at once: a batched version of the library's `rank`."""
    model = _identifier()
    read = [_encoded(text) for text in texts]
    scores = np.zeros((len(texts), len(LANGUAGES)), np.float32)
    for row, text in enumerate(read):
        found = visit_counts(model.tk_nextmove, _row_offsets(), model.tk_output, text)
        if found:
            counts = np.fromiter(found.values(), np.float32, len(found))
            scores[row] = np.log1p(counts) @ model.nb_ptc[list(found)] + model.nb_pc
    lengths = np.array([len(text) or 1 for text in read], np.float32)
    scores /= np.sqrt(lengths)[:, None]
    likely: NDArray[np.float32] = np.exp(scores - scores.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    return likely


def _encoded(text: str) -> bytes:
    """The text normalised and encoded as the library does it."""
    lower = text.lower() if text.isupper() else text
    return normalize("NFC", lower).encode("utf-8", "surrogatepass")


@cache
def _row_offsets() -> list[int]:
    """The offset of each automaton state's row of 256 transitions."""
    return [row << 8 for row in _identifier().tk_row]


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
