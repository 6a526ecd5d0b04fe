"""Encodes text to token ids, and decodes token ids one by one."""

import codecs
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from coe.experts.bundle import Bundle, tokenizer_digest
from coe.experts.chat_template import render
from coe.experts.conversation import Conversation
from coe.experts.grammar import Grammars
from coe.experts.manifest import TokenizerFacts
from coe.experts.template_fit import NOTHING, fitted, known
from coe.experts.token_bytes import token_bytes
from coe.experts.tokenizer_file import load_tokenizer
from coe.platform.errors import ArtifactError, ChecksumMismatch, InvalidPrompt

MAX_KNOWN = 32
# Marks where text is split: a Unicode noncharacter, reserved for internal use and so absent from text.
BORDER = "\ufdd0"


class ExpertTokenizer:
    """An expert's tokenizer. Safe to share between threads."""

    def __init__(self, data: str, facts: TokenizerFacts) -> None:
        self._tokenizer, document = load_tokenizer(data)
        self._facts = facts
        # Tokens that mark the start and end of turns, and the like.
        special = [entry["content"] for entry in document["added_tokens"] if entry.get("special")]
        self._control = [token for token in special if token]
        # A cheap first test: hundreds of control tokens share a prefix that few texts contain.
        self._beginnings = {token[:2] for token in self._control}
        self.token_bytes = token_bytes(document)
        self.eos_ids = frozenset(facts.eos_ids)

    @classmethod
    def of(cls, bundle: Bundle) -> "ExpertTokenizer":
        """The tokenizer of a bundle, shared by all experts with the same TokenizerFacts (which include its digest). The
        MAX_KNOWN most recently used are cached.

        Raises ChecksumMismatch, or ArtifactError when the file can't be read.
        """
        facts = bundle.manifest.tokenizer
        with _lock:
            if facts not in _known:
                try:
                    data = bundle.tokenizer_path.read_bytes()
                except OSError as error:
                    reason = error.strerror or error
                    raise ArtifactError(f"can't read {bundle.tokenizer_path}: {reason}", expert_id=bundle.id) from error
                if tokenizer_digest(data) != facts.sha256:
                    raise ChecksumMismatch(f"{bundle.tokenizer_path} differs from its manifest", expert_id=bundle.id)
                _known[facts] = cls(data.decode(), facts)
            _known.move_to_end(facts)
            while len(_known) > MAX_KNOWN:
                _known.popitem(last=False)
            return _known[facts]

    @cached_property
    def grammars(self) -> Grammars:
        """Built at first use, which takes half a second."""
        return Grammars(self._tokenizer.to_str(), self.eos_ids)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. Special tokens in it are recognised; none are added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_prompt(self, conversation: Conversation) -> list[int]:
        """Ids of a conversation, formatted with the chat template. Control tokens spelled out in a message are encoded
        as plain text.

        A base model (no template) continues the contents of the turns, joined by newlines. A raw prompt is continued as
        is by every expert, and token ids are used unchanged. Raises InvalidPrompt when there is nothing to continue.
        """
        if conversation.token_ids:
            return list(conversation.token_ids)
        if conversation.raw:
            ids = self.encode(conversation.turns[-1]["content"])
        elif template := self._facts.chat_template:
            asked = fitted(conversation, known(template))
            turns = [self._taken_apart(turn) for turn in asked.turns]
            tools = [self._taken_apart(tool.spec()) for tool in asked.tools.tools] if asked.tools else []
            text = render(template, turns, self._special(self._facts.bos_id), self._end_token(), tools)
            ids = [token for piece in text.split(BORDER) for token in self.encode(piece)]
        else:
            ids = self.encode("\n".join(turn["content"] for turn in fitted(conversation, NOTHING).turns))
        bos = self._facts.bos_id
        if self._facts.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        if not ids:
            raise InvalidPrompt("the prompt is empty, and this expert has no chat template to add anything to it")
        return ids

    def written(self, token: int) -> bytes:
        """The bytes of a prompt token; for a control token, its name."""
        spelt = self.token_bytes[token] if token < len(self.token_bytes) else b""
        return spelt or (self._tokenizer.id_to_token(token) or "").encode()

    def _taken_apart(self, said: Any) -> Any:
        """`said`, with a border after the first character of each control token in its texts, so that none survives."""
        match said:
            case str() if any(beginning in said for beginning in self._beginnings):
                spelled = "|".join(re.escape(token) for token in self._control if token in said)
                return re.sub(f"(?s)(?={spelled})(.)", rf"\1{BORDER}", said) if spelled else said
            case Mapping():
                return {self._taken_apart(key): self._taken_apart(value) for key, value in said.items()}
            case list():
                return [self._taken_apart(value) for value in said]
        return said

    def _special(self, token_id: int | None) -> str:
        return "" if token_id is None else self._tokenizer.id_to_token(token_id) or ""

    def _end_token(self) -> str:
        return self._special(self._facts.eos_ids[-1]) if self._facts.eos_ids else ""


class Detokenizer:
    """Decodes a text token by token. A character whose bytes span several tokens appears once it is complete."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this token adds; nothing for special tokens."""
        return self._decoder.decode(self.spell(token))

    def spell(self, token: int) -> bytes:
        """The bytes of a token alone."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def flush(self) -> str:
        """A replacement character if a character is incomplete, else nothing."""
        return self._decoder.decode(b"", final=True)


# By their facts, least recently used first.
_known: OrderedDict[TokenizerFacts, ExpertTokenizer] = OrderedDict()
_lock = threading.Lock()
