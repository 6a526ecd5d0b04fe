"""Makes synthetic outliers, which no category should claim, from ordinary prompts.

The out-of-distribution score learns from them (outlier exposure, Hendrycks et al. 2019). Outliers of a family
(`typing`) are made in several ways (`typing/neighbouring keys`), each of which is left out in some validation round.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from coe.router.training.augment import LETTERS, typing_errors
from coe.router.training.data import LabelledPrompt
from coe.router.training.injections import injections

# First and last code points of alphabets that prompts rarely use.
ALPHABETS = ((0x0391, 0x03C9), (0x0531, 0x0556), (0x05D0, 0x05EA), (0x10D0, 0x10FF), (0x1200, 0x1340), (0x13A0, 0x13EF))
# Latin letters and their rough phonetic equivalents in other alphabets.
TRANSLITERATIONS = tuple(
    str.maketrans(latin, other)
    for latin, other in (
        ("abcdefghiklmnoprstuvyz", "абцдефгхиклмнопрстувыз"),
        ("abgdezhiklmnoprstuy", "αβγδεζηικλμνοπρστυω"),
        ("abgdhvzyklmnspqrt", "אבגדהוזיכלמנספקרת"),
        ("abgdevztiklmnoprsuy", "აბგდევზთიკლმნოპრსუყ"),
    )
)
KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# Languages with fewer texts are not mixed with others.
MIN_TEXTS = 3
# Characters taken from the start of a text.
MOST_CHARS = 400


@dataclass(frozen=True, slots=True)
class Texts:
    """Ordinary prompts to make outliers from: `plain` in English or of unknown language, `foreign` by language."""

    plain: Sequence[str]
    foreign: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, prompts: Sequence[LabelledPrompt]) -> "Texts":
        plain: list[str] = []
        foreign: dict[str, list[str]] = {}
        for prompt in prompts:
            if prompt.language in ("", "en"):
                plain.append(prompt.text)
            elif prompt.language.isalpha() and len(prompt.language) == 2:
                foreign.setdefault(prompt.language, []).append(prompt.text)
        return cls(plain, {code: texts for code, texts in foreign.items() if len(texts) >= MIN_TEXTS})


Way = Callable[[Texts, np.random.Generator], str]


def random_letters(texts: Texts, rng: np.random.Generator) -> str:
    return typing_errors(_one(texts, rng), float(rng.uniform(0.06, 0.4)), rng)


def neighbouring_keys(texts: Texts, rng: np.random.Generator) -> str:
    rate = rng.uniform(0.06, 0.4)
    return "".join(_beside(letter, rng) if rng.random() < rate else letter for letter in _one(texts, rng))


def lost_letters(texts: Texts, rng: np.random.Generator) -> str:
    rate = rng.uniform(0.1, 0.5)
    return "".join(letter for letter in _one(texts, rng) if not (letter.isalpha() and rng.random() < rate))


def lost_spaces(texts: Texts, rng: np.random.Generator) -> str:
    rate = rng.uniform(0.4, 1.0)
    return "".join(letter for letter in _one(texts, rng) if not (letter == " " and rng.random() < rate))


def shuffled_letters(texts: Texts, rng: np.random.Generator) -> str:
    return " ".join("".join(rng.permutation(list(word))) for word in _one(texts, rng).split())


def keyboard_mash(texts: Texts, rng: np.random.Generator) -> str:
    return " ".join("".join(rng.choice(list(LETTERS), rng.integers(1, 11))) for _ in range(rng.integers(1, 25)))


def symbols(texts: Texts, rng: np.random.Generator) -> str:
    alphabet = list("!#%^&*()_+{}|<>?~☆★♪♫♥♦→←▲▼◆○●■□░▒▓😀🤖🎉🔥💥🧩0123456789")
    return "".join(rng.choice(alphabet, rng.integers(5, 80)))


def random_words(texts: Texts, rng: np.random.Generator) -> str:
    first, last = ALPHABETS[int(rng.integers(len(ALPHABETS)))]
    words = ["".join(map(chr, rng.integers(first, last, rng.integers(2, 9)))) for _ in range(rng.integers(3, 30))]
    return " ".join(words)


def transliterated(texts: Texts, rng: np.random.Generator) -> str:
    return _one(texts, rng).lower().translate(TRANSLITERATIONS[int(rng.integers(len(TRANSLITERATIONS)))])


def switching_words(texts: Texts, rng: np.random.Generator) -> str:
    return _woven([_pieces(text, 1, 3, rng) for text in _two(texts, rng)], 20)


def switching_phrases(texts: Texts, rng: np.random.Generator) -> str:
    return _woven([_pieces(text, 3, 8, rng) for text in _two(texts, rng)], 6)


def switching_sentences(texts: Texts, rng: np.random.Generator) -> str:
    split = [re.split(r"(?<=[.!?。？！।])\s*", text) for text in _two(texts, rng)]
    return _woven([[sentence for sentence in sentences if sentence.strip()] for sentences in split], 3)


def _injection(way: str) -> Way:
    """An injected phrase alone, after an ordinary prompt, or before one."""

    def make(texts: Texts, rng: np.random.Generator) -> str:
        phrase = injections(way, 1, rng)[0]
        place = rng.random()
        if place < 0.4:
            return phrase
        text = _one(texts, rng)[:300]
        return f"{text}{' ' if rng.random() < 0.5 else chr(10)}{phrase}" if place < 0.75 else f"{phrase} {text}"

    return make


INJECTION = "injection"
WAYS: dict[str, Way] = {
    "typing/random letters": random_letters,
    "typing/neighbouring keys": neighbouring_keys,
    "typing/lost letters": lost_letters,
    "typing/lost spaces": lost_spaces,
    "typing/shuffled letters": shuffled_letters,
    "mash/keyboard": keyboard_mash,
    "mash/symbols": symbols,
    "alphabet/random words": random_words,
    "alphabet/transliterated": transliterated,
    "switching/words": switching_words,
    "switching/phrases": switching_phrases,
    "switching/sentences": switching_sentences,
    **{f"{INJECTION}/{way}": _injection(way) for way in ("override", "leak", "persona", "markup")},
}


def family(way: str) -> str:
    return way.partition("/")[0]


def make(way: str, texts: Texts, count: int, rng: np.random.Generator) -> list[str]:
    """Makes `count` outliers in one way, without blank ones; none when there are no suitable texts."""
    if (family(way) == "switching" and not texts.foreign) or not texts.plain:
        return []
    made = (WAYS[way](texts, rng) for _ in range(count))
    return [text for text in made if text.strip()]


def _one(texts: Texts, rng: np.random.Generator) -> str:
    return texts.plain[int(rng.integers(len(texts.plain)))][:MOST_CHARS]


def _two(texts: Texts, rng: np.random.Generator) -> list[str]:
    """Two texts in different languages, one of them often English, in random order."""
    codes = [str(code) for code in rng.permutation(sorted(texts.foreign))[:2]]
    pair = [texts.foreign[code][int(rng.integers(len(texts.foreign[code])))][:MOST_CHARS] for code in codes]
    if len(pair) < 2 or rng.random() < 0.6:
        pair[1:] = [_one(texts, rng)]
    return pair if rng.random() < 0.5 else pair[::-1]


def _beside(letter: str, rng: np.random.Generator) -> str:
    row = next((row for row in KEY_ROWS if letter.lower() in row), "")
    if not row:
        return letter
    place = row.index(letter.lower()) + (1 if rng.random() < 0.5 else -1)
    return row[place % len(row)]


def _pieces(text: str, least: int, most: int, rng: np.random.Generator) -> list[str]:
    """Cuts a text into pieces of `least` to `most` - 1 words; without spaces, groups of five characters are words."""
    words = text.split()
    if len(words) < 4:
        words = [text[start : start + 5] for start in range(0, min(len(text), 80), 5)]
    found = []
    while words:
        size = int(rng.integers(least, most))
        found.append(" ".join(words[:size]))
        words = words[size:]
    return found


def _woven(pieces: Sequence[Sequence[str]], most: int) -> str:
    """Alternates the pieces of two texts: at most `most` of each, and at most two more than the shorter one has."""
    count = min(most, min(map(len, pieces)) + 2)
    return " ".join(piece for pair in zip_longest(*(some[:count] for some in pieces), fillvalue="") for piece in pair)
