"""The bytes of each token of a tokenizer."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

SPACE = "\u2581"


def token_bytes(document: Mapping[str, Any]) -> list[bytes]:
    """The bytes of each id; empty for special tokens."""
    decoder = document.get("decoder") or {}
    kinds = [one.get("type") for one in decoder.get("decoders", [decoder])]
    # Added tokens are literal text, except that SentencePiece writes spaces in them its own way.
    of_piece, of_added = (_byte_level, str.encode) if "ByteLevel" in kinds else (_sentence_piece, _sentence_piece)
    spelled = {index: of_piece(token) for token, index in document["model"]["vocab"].items()}
    for entry in document["added_tokens"]:
        spelled[entry["id"]] = b"" if entry.get("special") else of_added(entry["content"])
    return [spelled.get(index, b"") for index in range(max(spelled, default=-1) + 1)]


def _byte_level(token: str) -> bytes:
    alphabet = _alphabet()
    return b"".join(alphabet[char] if char in alphabet else char.encode() for char in token)


def _sentence_piece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE, " ").encode()


@lru_cache(maxsize=1)
def _alphabet() -> dict[str, bytes]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest moves above U+0100."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [value for value in range(0x100) if value not in kept]
    table = {chr(value): bytes([value]) for value in kept}
    return table | {chr(0x100 + index): bytes([value]) for index, value in enumerate(moved)}
