"""Answers that are JSON of a schema: which tokens may come next (ADR 15)."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from coe.platform.errors import InvalidPrompt

# Schemas that stay compiled, of a tokenizer.
MAX_KNOWN = 64


class JsonGrammars:
    """Schemas as grammars over the tokens of one tokenizer, given as the library `tokenizers` writes it."""

    def __init__(self, tokenizer: str, eos_ids: Iterable[int]) -> None:
        slices = LLTokenizer.json_slices()
        self._tokenizer = LLTokenizer(tokenizer, eos_token=sorted(eos_ids) or None, slices=slices)
        self._compiled = lru_cache(maxsize=MAX_KNOWN)(self._compile)

    def answer(self, schema: str, vocabulary: int) -> "JsonAnswer":
        """An answer that has not begun, for logits of so many tokens. Raises InvalidPrompt when the schema is none."""
        return JsonAnswer(self._compiled(schema).deep_copy(), vocabulary)

    def _compile(self, schema: str) -> LLMatcher:
        try:
            # A model that may write blanks anywhere may write nothing else.
            grammar = LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
            )
        except ValueError as error:
            raise InvalidPrompt(f"json_schema is no JSON: {error}", param="json_schema") from error
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        _check(matcher)
        return matcher


class JsonAnswer:
    """How far one answer is."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    @property
    def complete(self) -> bool:
        """Nothing may follow."""
        return self._matcher.is_stopped()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """[V]: tokens that may come next; what ends the answer is among them where it may end.

        Raises InvalidPrompt when the schema turns out to be more than the library's limits let it follow.
        """
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        _check(self._matcher)
        allowed: npt.NDArray[Any] = np.zeros(self._vocabulary, np.bool_)
        known = min(len(bits), self._vocabulary)
        allowed[:known] = bits[:known]
        return allowed

    def take(self, token: int) -> None:
        """One of those allowed."""
        self._matcher.consume_token(token)
        _check(self._matcher)


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        why = matcher.get_error().partition("\n")[0]
        raise InvalidPrompt(f"json_schema can't be followed: {why}", param="json_schema")
