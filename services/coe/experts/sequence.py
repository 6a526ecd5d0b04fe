"""The state of one request while it is being generated."""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from coe.experts.grammar import Grammar
from coe.experts.kv_sharing import ExpertKv
from coe.experts.logprobs import PromptLogprobs, TokenLogprob, token_logprob
from coe.experts.lookup import Lookup
from coe.experts.sampler import Logits, Sampler
from coe.experts.sampling_params import SamplingParams
from coe.experts.stop_strings import StopStrings
from coe.experts.tokenizer import Detokenizer, ExpertTokenizer
from coe.experts.tool_calls import CallReader, ToolCall, ToolUse
from coe.platform.errors import CoEError, InvalidPrompt

# More in one step would delay the other sequences of the batch.
FORCED_AT_ONCE = 32


@dataclass(frozen=True)
class Emission:
    """What one step added to one request. `finish_reason` and `final_text` are set on its last emission only.

    The step speculated on `guessed` tokens, of which `right` were accepted. `error`: why the request failed; it gets no
    token then, and its `finish_reason` is "error".
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
    # If asked for: of the new tokens, except the one that ended the turn.
    logprobs: tuple[TokenLogprob, ...] = ()
    # If asked for: of the prompt's tokens, on the last emission. `logprobs` then has the token that ended the turn too.
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    guessed: int = 0
    right: int = 0
    # Tokens of the prompt that were already in the KV cache.
    cached_tokens: int = 0
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
    # Set if the answer may contain tool calls.
    reader: CallReader | None = None
    # Set if the prompt's logprobs were asked for.
    scores: PromptLogprobs | None = None
    blocks: tuple[int, ...] = field(default=(), init=False)
    prompt_tokens: int = field(init=False)
    computed: int = field(default=0, init=False)
    cached_tokens: int = field(default=0, init=False)
    cancelled: bool = field(default=False, init=False)
    # Whether its steps must be batch-invariant: a seed promises an answer that does not depend on the other sequences.
    batch_invariant: bool = False
    # Owner of its blocks, and the prefix cache that it may use.
    kv: ExpertKv = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.ids)
        self._stops = StopStrings(self.params.stop)
        self._lookup: Lookup | None = None
        # Tokens forced by the grammar after the last drawn one, not emitted yet.
        self._forced: Iterator[int] = iter(())
        self._text: list[str] = []

    def hold(self, blocks: tuple[int, ...], *, computed: int) -> None:
        """Assigns KV blocks that already hold the first `computed` tokens, whoever computed them."""
        self.cached_tokens += computed - self.computed
        self.blocks, self.computed = blocks, computed

    @property
    def pending(self) -> int:
        """Tokens that are not in the KV cache yet: the rest of the prompt, or the latest ones."""
        return len(self.ids) - self.computed

    @property
    def completion_tokens(self) -> int:
        return len(self.ids) - self.prompt_tokens

    def guess(self, most: int) -> tuple[int, ...]:
        """Up to `most` guessed next tokens, for a step to compute after the pending ones."""
        if self._lookup is None:
            self._lookup = Lookup(self.ids)
        return self._lookup.guess(min(most, self.params.max_tokens - self.completion_tokens - 1))

    def accept(self, logits: Logits | None, likeliest: Seq[int], guesses: Seq[int] = ()) -> Emission:
        """Draws the next tokens and returns what they add. Tokens that a grammar forces are included: the next step
        computes them together.

        The first row belongs to the last pending token, the others to one guess each: [rows, V] of `logits`, whose
        first maxima are at `likeliest`. `logits` may be None for greedy sampling without penalties.
        """
        begin, computed = len(self.ids), self.computed
        if self.params.max_tokens == 0:
            return self._emission(begin, "", "length", (), 0, 0)
        text, finish = "", None
        told: list[TokenLogprob] = []
        try:
            for token, row in self._drawn(logits, likeliest, guesses):
                said, finish = self._add(token)
                text += said
                top = self.params.top_logprobs
                if row is not None and top is not None and (self.scores is not None or not self._ends(token)):
                    told.append(token_logprob(row, token, top, self.detokenizer.spell))
                if finish is not None:
                    break
        except InvalidPrompt as error:
            self._text.append(text)
            return self.fail(error)
        right = self.computed - computed
        if self._lookup is not None:
            self._lookup.grow(self.ids[begin:])
            self._lookup.judge(right, len(guesses))
        return self._emission(begin, text, finish, tuple(told), len(guesses), right)

    def fail(self, error: CoEError) -> Emission:
        """The last emission of a request that failed."""
        return Emission(
            request_id=self.request_id,
            text="",
            tokens=0,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            finish_reason="error",
            final_text="".join(self._text),
            cached_tokens=self.cached_tokens,
            error=error,
        )

    def _drawn(
        self, logits: Logits | None, likeliest: Seq[int], guesses: Seq[int]
    ) -> Iterator[tuple[int, Logits | None]]:
        """The next tokens, each with the logits row that it was drawn from or follows, up to the first wrong guess."""
        row, known = 0, True
        while known:
            of = None if logits is None else logits[row]
            for token in self._next(of, likeliest[row]):
                yield token, of
                known = known and row < len(guesses) and token == guesses[row]
                if known:
                    self.computed += 1
                    row += 1

    def _next(self, logits: Logits | None, likely: int) -> Iterator[int]:
        """One drawn token, then the tokens that the grammar forces after it. These are never drawn, even where a guess
        provides logits: that would use up random numbers and change the answer of a seed. With logprobs, each forced
        token waits for its own logits.
        """
        if (token := next(self._forced, None)) is None:
            token = self.sampler.sample(logits, likely)
            self._forced = self.sampler.forced(FORCED_AT_ONCE)
        yield token
        if self.params.top_logprobs is None:
            yield from self._forced

    def _add(self, token: int) -> tuple[str, str | None]:
        """The text that the token adds, and the finish reason if the answer ends with it."""
        self.ids.append(token)
        if self._ends(token):
            return self._rest(), "stop"
        text = "" if token in self.eos_ids else self._said(self.detokenizer.push(token))
        if self._stops.stopped:
            return text, "stop"
        if self.sampler.complete:
            return text + self._rest(), "stop"
        if self.completion_tokens == self.params.max_tokens:
            return text + self._rest(), "length"
        return text, None

    def _ends(self, token: int) -> bool:
        return token in self.eos_ids and not self.params.ignore_eos

    def _said(self, text: str) -> str:
        """The part of the text to send now. Stop strings don't apply within tool calls."""
        return self._stops.push(self.reader.push(text) if self.reader else text)

    def _rest(self) -> str:
        """The text held back so far."""
        text = self._said(self.detokenizer.flush()) + self._stops.push(self.reader.flush() if self.reader else "")
        return text + self._stops.flush()

    def _emission(
        self,
        begin: int,
        text: str,
        finish_reason: str | None,
        logprobs: tuple[TokenLogprob, ...],
        guessed: int,
        right: int,
    ) -> Emission:
        """An emission of the ids from `begin` on."""
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
            logprobs=logprobs,
            prompt_logprobs=tuple(self.scores.told) if self.scores and finish_reason else (),
            guessed=guessed,
            right=right,
            cached_tokens=self.cached_tokens,
        )


def start(
    request_id: str,
    prompt: Seq[int],
    params: SamplingParams,
    tokenizer: ExpertTokenizer,
    vocabulary: int,
    tools: ToolUse | None = None,
) -> Sequence:
    """A sequence without KV blocks. Raises InvalidPrompt for an invalid schema, or a grammar with ignore_eos."""
    ids = list(prompt)
    grammar = _grammar(params.json_schema, tools)
    if grammar is not None and params.ignore_eos:
        message = f"ignore_eos can't be combined with {grammar.param}: such an answer ends where its grammar ends"
        raise InvalidPrompt(message, param="ignore_eos")
    held = None if grammar is None else tokenizer.grammars.begin(grammar, vocabulary)
    return Sequence(
        request_id=request_id,
        ids=ids,
        params=params,
        sampler=Sampler(params, ids, vocabulary, held),
        detokenizer=Detokenizer(tokenizer.token_bytes),
        eos_ids=tokenizer.eos_ids,
        reader=tools.reader(params.json_schema) if tools else None,
        scores=PromptLogprobs(prompt, params.top_logprobs or 0, tokenizer.written) if params.prompt_logprobs else None,
    )


def _grammar(schema: str | None, tools: ToolUse | None) -> Grammar | None:
    if tools is not None:
        return tools.grammar(schema)
    return None if schema is None else Grammar.of_schema(schema)
