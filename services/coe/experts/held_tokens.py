"""A tokenizer as the library of grammars asks for it."""

import json
from collections.abc import Sequence
from typing import Any

from coe.experts.token_bytes import token_bytes
from coe.experts.tokenizer_file import load_tokenizer


class HeldTokens:
    """What llguidance.TokenizerWrapper wraps. From a tokenizer.json the library would take every added token in angle
    brackets for a control token, which no text has: `<tool_call>` and `<think>` too.

    `tokens`: the bytes of each, none of a control token. A call gives the tokens of a text that goes on.
    """

    bos_token_id = None

    def __init__(self, tokenizer: str, eos_ids: Sequence[int]) -> None:
        document = json.loads(tokenizer)
        parts = {name: _without_prefix(document[name]) for name in ("normalizer", "pre_tokenizer")}
        self._tokenizer, document = load_tokenizer(json.dumps(document | parts))
        self._tokenizer.encode_special_tokens = True
        self.tokens = [*token_bytes(document), b""]
        # Of a tokenizer without: one that no expert has.
        self.eos_token_id = eos_ids[0] if eos_ids else len(self.tokens) - 1
        self._ids = {token: index for index, token in reversed(list(enumerate(self.tokens))) if token}
        self._widest = max(map(len, self.tokens))

    def __call__(self, text: bytes) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text.decode(), add_special_tokens=False).ids
        # A normalizer may change what a schema spells.
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
    """The same, but that it puts no space in front of a text."""
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
