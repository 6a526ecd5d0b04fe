"""Adapts a tokenizer to the interface of llguidance."""

import json
from collections.abc import Sequence
from typing import Any

from coe.experts.token_bytes import token_bytes
from coe.experts.tokenizer_file import load_tokenizer


class HeldTokens:
    """The object that llguidance.TokenizerWrapper wraps. Given a tokenizer.json, the library would treat every added
    token in angle brackets as a control token that never occurs in text, including `<tool_call>` and `<think>`.

    `tokens`: the bytes of each token, empty for control tokens. Calling it encodes text that continues other text.
    """

    bos_token_id = None

    def __init__(self, tokenizer: str, eos_ids: Sequence[int]) -> None:
        document = json.loads(tokenizer)
        parts = {name: _without_prefix(document[name]) for name in ("normalizer", "pre_tokenizer")}
        self._tokenizer, document = load_tokenizer(json.dumps(document | parts))
        self._tokenizer.encode_special_tokens = True
        self.tokens = [*token_bytes(document), b""]
        # A tokenizer without end tokens gets an id that no expert uses.
        self.eos_token_id = eos_ids[0] if eos_ids else len(self.tokens) - 1
        self._ids = {token: index for index, token in reversed(list(enumerate(self.tokens))) if token}
        self._widest = max(map(len, self.tokens))

    def __call__(self, text: bytes) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text.decode(), add_special_tokens=False).ids
        # A normalizer may change the text of a schema; then encode it by longest match.
        return ids if b"".join(self.tokens[index] for index in ids) == text else self._longest(text)

    def _longest(self, text: bytes) -> list[int]:
        ids: list[int] = []
        while text:
            sizes = range(min(self._widest, len(text)), 0, -1)
            size = next((size for size in sizes if text[:size] in self._ids), 0)
            if not size:
                break
            ids.append(self._ids[text[:size]])
            text = text[size:]
        return ids


def _without_prefix(part: Any) -> Any:
    """The same component without the space it adds before a text."""
    match part:
        case {"type": "Sequence"}:
            name = "normalizers" if "normalizers" in part else "pretokenizers"
            kept = [_without_prefix(one) for one in part[name]]
            return part | {name: [one for one in kept if one is not None]}
        case {"type": "Prepend"}:
            return None
        case {"type": "Metaspace"}:
            return part | {"prepend_scheme": "never", "add_prefix_space": False}
        case {"type": "ByteLevel"}:
            return part | {"add_prefix_space": False}
    return part
