"""Grammar-constrained answers: which tokens may come next (ADR 15)."""

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

# Fixed whitespace in JSON: a model that may write blanks anywhere may write nothing else.
WHITESPACE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Characters of source text of the compiled grammars cached per tokenizer. Compiled, they take about 25 times as much
# memory.
MAX_KNOWN = 1 << 21


@dataclass(frozen=True)
class Grammar:
    """A grammar in one of llguidance's formats, and the field of the prompt that asks for it."""

    text: str
    param: str

    @classmethod
    def of_schema(cls, schema: str) -> "Grammar":
        """A grammar for JSON that matches a JSON schema. Raises InvalidPrompt when the schema is not valid JSON."""
        try:
            parsed = json.loads(schema)
            if isinstance(parsed, dict):
                close(parsed)
            text = LLMatcher.grammar_from_json_schema(json.dumps(parsed), overrides=WHITESPACE)
            return cls(text, "json_schema")
        except (ValueError, RecursionError) as error:
            raise InvalidPrompt(f"json_schema is not valid JSON: {error}", param="json_schema") from error


class Grammars:
    """Compiled grammars for one tokenizer, given in the JSON form of the `tokenizers` library."""

    def __init__(self, tokenizer: str, eos_ids: Iterable[int]) -> None:
        ends = sorted(eos_ids)
        tokens, slices = TokenizerWrapper(HeldTokens(tokenizer, ends)), LLTokenizer.json_slices()
        self._tokenizer = LLTokenizer(tokens, eos_token=ends or None, slices=slices)
        # Least recently used first.
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def begin(self, grammar: Grammar, vocabulary: int) -> "HeldAnswer":
        """A new answer over a vocabulary of this size. Raises InvalidPrompt for a grammar that can't be followed."""
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
    """The grammar state of one answer."""

    def __init__(self, matcher: LLMatcher, param: str, vocabulary: int) -> None:
        self._matcher = matcher
        self._param = param
        self._vocabulary = vocabulary

    @property
    def complete(self) -> bool:
        """Whether the grammar allows no further token."""
        return self._matcher.is_stopped()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """A mask [V] of the tokens that may come next, including end tokens where the answer may end.

        Raises InvalidPrompt when the grammar turns out to exceed the library's limits.
        """
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        _check(self._matcher, self._param)
        allowed: npt.NDArray[Any] = np.zeros(self._vocabulary, np.bool_)
        known = min(len(bits), self._vocabulary)
        allowed[:known] = bits[:known]
        return allowed

    def forced(self) -> list[int]:
        """The next tokens as far as the grammar leaves no choice."""
        tokens = self._matcher.compute_ff_tokens()
        _check(self._matcher, self._param)
        return tokens

    def take(self, token: int) -> None:
        """Advances by one of the allowed tokens."""
        self._matcher.consume_token(token)
        _check(self._matcher, self._param)


def _check(matcher: LLMatcher, param: str) -> None:
    if matcher.is_error():
        why, _, more = matcher.get_error().partition("\n")
        # For a regular expression, an excerpt that marks the position follows, then the reason.
        if found := re.search("^error: (.*)", more, re.MULTILINE):
            why = f"{why} {found[1]}"
        raise InvalidPrompt(f"{param} can't be followed: {why}", param=param)
