"""POST /v1/completions: a text goes on, by no chat template. The older API, of tools that measure and edit."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, field_validator

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Head, Tokens
from coe.gateway.dialects.choices import ChoiceRequest, Chunks, whole
from coe.gateway.dialects.logprobs import TopLogprobs

# As that API has it.
DEFAULT_TOKENS = 16
FORM = ("text_completion", "cmpl")


def _one(prompt: object) -> object:
    if not isinstance(prompt, list):
        return prompt
    if len(prompt) != 1 or not isinstance(prompt[0], str):
        raise ValueError("only one text is supported, no list of several and no token ids")
    return prompt[0]


class CompletionRequest(ChoiceRequest):
    """The fields that are served."""

    prompt: Annotated[str, BeforeValidator(_one)]
    max_tokens: Tokens | None = DEFAULT_TOKENS
    logprobs: TopLogprobs | None = None
    echo: bool = False
    # Accepted only at the value that changes nothing.
    best_of: Literal[1] = 1
    suffix: Literal[""] = ""

    @field_validator("echo")
    @classmethod
    def _without_logprobs(cls, echo: bool, asked: ValidationInfo) -> bool:
        if echo and asked.data.get("logprobs") is not None:
            raise ValueError("not supported beside logprobs: the prompt's tokens have none")
        return echo

    @property
    def echoed(self) -> str:
        return self.prompt if self.echo else ""

    def to_prompt(self) -> events_pb2.PromptSubmitted:
        prompt = self.prompt_of(max_tokens=self.max_tokens, json_schema=self.json_schema, top_logprobs=self.logprobs)
        prompt.prompt, prompt.raw = self.prompt, True
        return prompt

    def whole(self, result: events_pb2.PromptCompleted, head: Head) -> dict[str, Any]:
        answer = result.completion
        logprobs = None if self.logprobs is None else Likelihoods().told(answer.logprobs)
        text = self.echoed + answer.text
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": answer.finish_reason}
        return whole(head, *FORM, choice, result)

    def telling(self, head: Head) -> "CompletionChunks":
        return CompletionChunks(head, self.echoed, self.wants_usage)


class CompletionChunks(Chunks):
    """None without text but the last, which says how it ended: who measures takes the first one for the first token."""

    def __init__(self, head: Head, echoed: str, with_usage: bool) -> None:
        super().__init__(head, *FORM, with_usage)
        self._echoed = echoed
        self._likelihoods = Likelihoods()

    def begun(self) -> Iterable[str]:
        return [self._text(self._echoed)] if self._echoed else []

    def more(self, text: str, logprobs: Sequence[common_pb2.TokenLogprob]) -> Iterable[str]:
        return [self._text(text, self._likelihoods.told(logprobs) if logprobs else None)]

    def ended(self, result: events_pb2.PromptCompleted) -> Iterator[str]:
        yield self._text("", finish=result.completion.finish_reason)
        yield from self.end(result)

    def _text(self, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None) -> str:
        return self.chunk({"text": text, "logprobs": logprobs}, finish)


class Likelihoods:
    """How likely the tokens of one answer were, in this API's own form, as they come."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def told(self, tokens: Sequence[common_pb2.TokenLogprob]) -> dict[str, Any]:
        return {
            "tokens": [_spelt(token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_likeliest(token) for token in tokens],
            "text_offset": [self._past(token) for token in tokens],
        }

    def _past(self, token: common_pb2.TokenLogprob) -> int:
        """Where it begins, in characters of the answer."""
        begins = self._offset
        self._offset += len(self._decoder.decode(token.token))
        return begins


def _likeliest(token: common_pb2.TokenLogprob) -> dict[str, float]:
    """With the token itself, whose place may be further down."""
    found: dict[str, float] = {}
    for one in (*token.likeliest, token):
        found.setdefault(_spelt(one), one.logprob)
    return found


def _spelt(token: common_pb2.TokenLogprob) -> str:
    """Names are to differ: of what is no whole characters, the bytes stand there."""
    try:
        return token.token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.token)
