"""A small byte-level BPE, written from the papers (GPT-2's) and not from the library that it judges."""

import itertools
import unicodedata
from collections.abc import Iterator, Sequence

CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


class ByteBpe:
    """GPT-2's words and merges; with `single_digits` every digit is cut off first, as SmolLM2 has it."""

    def __init__(
        self, tokens: Sequence[str], merges: Sequence[str], specials: Sequence[str], *, single_digits: bool
    ) -> None:
        self._ids = {token: index for index, token in enumerate(tokens)}
        self._ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self._specials = sorted(specials, key=len, reverse=True)
        self._single_digits = single_digits
        self._letters = _byte_letters()

    def encode(self, text: str) -> list[int]:
        return [token for part in self._cut_specials(text) for token in part]

    def _cut_specials(self, text: str) -> Iterator[list[int]]:
        plain = 0
        at = 0
        while at < len(text):
            special = next((name for name in self._specials if text.startswith(name, at)), None)
            if special is None:
                at += 1
                continue
            yield self._encode_plain(text[plain:at])
            yield [self._ids[special]]
            at += len(special)
            plain = at
        yield self._encode_plain(text[plain:])

    def _encode_plain(self, text: str) -> list[int]:
        runs = _cut_digits(text) if self._single_digits else [text]
        return [self._ids[piece] for run in runs for word in gpt2_words(run) for piece in self._merge(word)]

    def _merge(self, word: str) -> list[str]:
        parts = [self._letters[byte] for byte in word.encode()]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged: list[str] = []
            at = 0
            while at < len(parts):
                if at + 1 < len(parts) and (parts[at], parts[at + 1]) == best:
                    merged.append(parts[at] + parts[at + 1])
                    at += 2
                else:
                    merged.append(parts[at])
                    at += 1
            parts = merged
        return parts


def gpt2_words(text: str) -> Iterator[str]:
    """Contractions; letters, digits or signs with one space before; spaces but the last one before a word."""
    at = 0
    while at < len(text):
        end = _word_end(text, at)
        yield text[at:end]
        at = end


def _word_end(text: str, at: int) -> int:
    contraction = next((name for name in CONTRACTIONS if text.startswith(name, at)), None)
    if contraction:
        return at + len(contraction)
    first = at + 1 if text[at] == " " and at + 1 < len(text) else at
    if _kind(text[first]) != "space":
        return _run(text, first)
    end = _run(text, at)
    return end if end == len(text) or end == at + 1 else end - 1


def _run(text: str, start: int) -> int:
    end = start
    while end < len(text) and _kind(text[end]) == _kind(text[start]):
        end += 1
    return end


def _kind(char: str) -> str:
    if char.isspace() and char not in "\x1c\x1d\x1e\x1f":
        return "space"
    category = unicodedata.category(char)[0]
    return {"L": "letter", "N": "number"}.get(category, "sign")


def _cut_digits(text: str) -> Iterator[str]:
    start = 0
    for at, char in enumerate(text):
        if unicodedata.category(char)[0] == "N":
            if start < at:
                yield text[start:at]
            yield char
            start = at + 1
    if start < len(text):
        yield text[start:]


def _byte_letters() -> list[str]:
    letters: list[str] = []
    moved = 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            letters.append(chr(byte))
        else:
            letters.append(chr(256 + moved))
            moved += 1
    return letters
