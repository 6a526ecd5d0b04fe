"""One request while it is being generated."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from coe.experts.grammar import Grammar
from coe.experts.sampler import Sampler
from coe.experts.sampling_params import SamplingParams
from coe.experts.stop_strings import StopStrings
from coe.experts.tokenizer import Detokenizer, ExpertTokenizer
from coe.experts.tool_calls import CallReader, ToolCall, ToolUse
from coe.platform.errors import CoEError, InvalidPrompt

# A step that computes many more would hold up whoever shares it.
FORCED_AT_ONCE = 32


@dataclass(frozen=True)
class Emission:
    """What one step added to one request. `finish_reason` and `final_text` are set on its last emission only.

    `error`: it ended so, and was given no token; its `finish_reason` is "error".
    """

    request_id: str
    text: str
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None = None
    final_text: str = ""
    token_ids: tuple[int, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    error: CoEError | None = None


@dataclass(eq=False)
class Sequence:
    """Token ids, how many of them are in the KV cache (`computed`), and the blocks that hold them."""

    request_id: str
    ids: list[int]
    params: SamplingParams
    sampler: Sampler
    detokenizer: Detokenizer
    eos_ids: frozenset[int]
    # Of an answer that may have calls.
    reader: CallReader | None = None
    blocks: tuple[int, ...] = field(default=(), init=False)
    prompt_tokens: int = field(init=False)
    computed: int = field(default=0, init=False)
    cancelled: bool = field(default=False, init=False)
    # Whether its steps must be told that nothing may depend on what shares them: that is what a seed is for.
    batch_invariant: bool = False

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.ids)
        self._stops = StopStrings(self.params.stop)
        self._text: list[str] = []

    def hold(self, blocks: tuple[int, ...], *, computed: int) -> None:
        """Gives it KV blocks; the first `computed` tokens are in them already."""
        self.blocks, self.computed = blocks, computed

    @property
    def pending(self) -> int:
        """Tokens that are not in the KV cache yet: the rest of the prompt, or those that came last."""
        return len(self.ids) - self.computed

    @property
    def completion_tokens(self) -> int:
        return len(self.ids) - self.prompt_tokens

    def accept(self, logits: npt.NDArray[np.float32] | None, likeliest: int) -> Emission:
        """Draws the next token from `logits` [V], whose first maximum is at `likeliest`, and says what it adds. Tokens
        that a grammar forces come along: the next step computes them together.

        `logits` may be None for parameters that take the likeliest.
        """
        begin = len(self.ids)
        try:
            tokens = [self.sampler.sample(logits, likeliest)]
            tokens += self.sampler.forced(min(FORCED_AT_ONCE, self.params.max_tokens - self.completion_tokens - 1))
        except InvalidPrompt as error:
            return self.fail(error)
        text = ""
        for token in tokens:
            self.ids.append(token)
            if token in self.eos_ids:
                return self._emission(begin, text + self._rest(), "stop")
            text += self._said(self.detokenizer.push(token))
            if self._stops.stopped:
                return self._emission(begin, text, "stop")
        if self.sampler.complete:
            return self._emission(begin, text + self._rest(), "stop")
        if self.completion_tokens < self.params.max_tokens:
            return self._emission(begin, text, None)
        return self._emission(begin, text + self._rest(), "length")

    def fail(self, error: CoEError) -> Emission:
        """Its last emission, in place of a token."""
        return Emission(
            request_id=self.request_id,
            text="",
            tokens=0,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            finish_reason="error",
            final_text="".join(self._text),
            error=error,
        )

    def _said(self, text: str) -> str:
        """What of it is sent now. Calls have no stop strings."""
        return self._stops.push(self.reader.push(text) if self.reader else text)

    def _rest(self) -> str:
        """What was held back."""
        text = self._said(self.detokenizer.flush()) + self._stops.push(self.reader.flush() if self.reader else "")
        return text + self._stops.flush()

    def _emission(self, begin: int, text: str, finish_reason: str | None) -> Emission:
        """Of the ids from `begin` on."""
        self._text.append(text)
        calls = self.reader.calls() if self.reader and finish_reason else ()
        if calls and finish_reason == "stop":
            finish_reason = "tool_calls"
        return Emission(
            request_id=self.request_id,
            text=text,
            tokens=len(self.ids) - begin,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            finish_reason=finish_reason,
            final_text="".join(self._text) if finish_reason else "",
            token_ids=tuple(self.ids[begin:]),
            tool_calls=calls,
        )


def start(
    request_id: str,
    prompt: Seq[int],
    params: SamplingParams,
    tokenizer: ExpertTokenizer,
    vocabulary: int,
    tools: ToolUse | None = None,
) -> Sequence:
    """A sequence without KV blocks. Raises InvalidPrompt for a schema that is none."""
    ids = list(prompt)
    grammar = _grammar(params.json_schema, tools)
    held = None if grammar is None else tokenizer.grammars.begin(grammar, vocabulary)
    return Sequence(
        request_id=request_id,
        ids=ids,
        params=params,
        sampler=Sampler(params, ids, vocabulary, held),
        detokenizer=Detokenizer(tokenizer.token_bytes),
        eos_ids=tokenizer.eos_ids,
        reader=tools.reader(params.json_schema) if tools else None,
    )


def _grammar(schema: str | None, tools: ToolUse | None) -> Grammar | None:
    if tools is not None:
        return tools.grammar(schema)
    return None if schema is None else Grammar.of_schema(schema)
