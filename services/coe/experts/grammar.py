"""Answers that are held to a grammar: which tokens may come next (ADR 15)."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from coe.experts.closed_schema import close
from coe.experts.held_tokens import HeldTokens
from coe.platform.errors import InvalidPrompt

# Of JSON. A model that may write blanks anywhere may write nothing else.
WHITESPACE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Characters of grammars that stay compiled, of a tokenizer. Compiled, they take some 25 times as much memory.
MAX_KNOWN = 1 << 21


@dataclass(frozen=True)
class Grammar:
    """In one of the library's forms, and which field of the prompt asks for it."""

    text: str
    param: str

    @classmethod
    def of_schema(cls, schema: str) -> "Grammar":
        """JSON that a JSON schema describes. Raises InvalidPrompt when that is no JSON."""
        try:
            parsed = json.loads(schema)
            if isinstance(parsed, dict):
                close(parsed)
            text = LLMatcher.grammar_from_json_schema(json.dumps(parsed), overrides=WHITESPACE)
            return cls(text, "json_schema")
        except (ValueError, RecursionError) as error:
            raise InvalidPrompt(f"json_schema is not JSON: {error}", param="json_schema") from error


class Grammars:
    """Grammars over the tokens of one tokenizer, given as the library `tokenizers` writes it."""

    def __init__(self, tokenizer: str, eos_ids: Iterable[int]) -> None:
        ends = sorted(eos_ids)
        tokens, slices = TokenizerWrapper(HeldTokens(tokenizer, ends)), LLTokenizer.json_slices()
        self._tokenizer = LLTokenizer(tokens, eos_token=ends or None, slices=slices)
        # Least recently used first.
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def begin(self, grammar: Grammar, vocabulary: int) -> "HeldAnswer":
        """An answer for logits of so many tokens. Raises InvalidPrompt for a grammar that can't be followed."""
        with self._lock:
            return HeldAnswer(self._known(grammar).deep_copy(), grammar.param, vocabulary)

    def _known(self, grammar: Grammar) -> LLMatcher:
        if grammar not in self._compiled:
            self._compiled[grammar] = self._compile(grammar)
            self._characters += len(grammar.text)
        self._compiled.move_to_end(grammar)
        while self._characters > MAX_KNOWN and len(self._compiled) > 1:
            oldest, _ = self._compiled.popitem(last=False)
            self._characters -= len(oldest.text)
        return self._compiled[grammar]

    def _compile(self, grammar: Grammar) -> LLMatcher:
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(self._tokenizer, grammar.text, log_level=0, limits=limits)
        _check(matcher, grammar.param)
        return matcher


class HeldAnswer:
    """How far one answer is."""

    def __init__(self, matcher: LLMatcher, param: str, vocabulary: int) -> None:
        self._matcher = matcher
        self._param = param
        self._vocabulary = vocabulary

    @property
    def complete(self) -> bool:
        """Nothing may follow."""
        return self._matcher.is_stopped()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """[V]: tokens that may come next; what ends the answer is among them where it may end.

        Raises InvalidPrompt when the grammar turns out to be more than the library's limits let it follow.
        """
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        _check(self._matcher, self._param)
        allowed: npt.NDArray[Any] = np.zeros(self._vocabulary, np.bool_)
        known = min(len(bits), self._vocabulary)
        allowed[:known] = bits[:known]
        return allowed

    def forced(self) -> list[int]:
        """Tokens that come next whatever anybody would rather say, as far as that is known."""
        tokens = self._matcher.compute_ff_tokens()
        _check(self._matcher, self._param)
        return tokens

    def take(self, token: int) -> None:
        """One of those allowed."""
        self._matcher.consume_token(token)
        _check(self._matcher, self._param)


def _check(matcher: LLMatcher, param: str) -> None:
    if matcher.is_error():
        why, _, more = matcher.get_error().partition("\n")
        # Of a pattern a picture of the place follows, then what is wrong there.
        if found := re.search("^error: (.*)", more, re.MULTILINE):
            why = f"{why} {found[1]}"
        raise InvalidPrompt(f"{param} can't be followed: {why}", param=param)
