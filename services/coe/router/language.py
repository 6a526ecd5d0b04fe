"""Which language and scripts a text is written in. Pure, apart from the library's model, which is read once."""

import re
from collections import Counter
from functools import cache, lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# Languages that prompts come in; rarer ones would only be confused with these on short texts.
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
    """Share of each script among the letters of the text's start; empty when it has none."""
    sample = text[:SAMPLE_CHARS]
    letters = len(_LETTER.findall(sample))
    if not letters:
        return {}
    counts = Counter({name: len(pattern.findall(sample)) for name, pattern in _PATTERNS.items()})
    return {name: min(count / letters, 1.0) for name, count in counts.items() if count}


# The features and the message of one prompt ask for it in turn.
@lru_cache(maxsize=64)
def language(text: str) -> str:
    """BCP 47 code of the language, or empty when the text is too short or too odd to tell."""
    code, probability = _identifier().classify(text[:SAMPLE_CHARS])
    return code if probability >= MIN_PROBABILITY else ""


def likelihoods(text: str) -> list[float]:
    """Probability of each of LANGUAGES, in their order."""
    of = dict(_identifier().rank(text))
    return [of[code] for code in LANGUAGES]


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
