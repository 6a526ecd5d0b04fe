"""POST /v1/completions: continues a text, without a chat template.

The older API, still used by benchmarking, evaluation and editing tools.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Head
from coe.gateway.dialects.choices import MAX_CHOICES, ChoiceRequest, Chunks, whole
from coe.gateway.dialects.logprobs import TopLogprobs
from coe.gateway.models import ROUTED
from coe.platform.errors import Unavailable

# OpenAI's default.
DEFAULT_TOKENS = 16
FORM = ("text_completion", "cmpl")


def _given(prompt: object) -> list[str] | list[list[int]]:
    several: list[Any] = prompt if isinstance(prompt, list) and not _is_ids(prompt) else [prompt]
    if not several or not (all(isinstance(one, str) for one in several) or all(map(_is_ids, several))):
        raise ValueError("must be a text, a list of token ids, or a list of either")
    return several


def _is_ids(prompt: object) -> bool:
    return isinstance(prompt, list) and bool(prompt) and all(type(one) is int and 0 <= one < 1 << 32 for one in prompt)


class CompletionRequest(ChoiceRequest):
    """The supported fields of a request."""

    prompt: list[str] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=0, lt=2**32)] | None = DEFAULT_TOKENS
    logprobs: TopLogprobs | None = None
    echo: Annotated[bool, Field(validate_default=True)] = False
    # Accepted only with the value that has no effect.
    best_of: Literal[1] = 1
    suffix: Literal[""] = ""

    @field_validator("prompt", mode="plain")
    @classmethod
    def _prompts(cls, prompt: object, asked: ValidationInfo) -> list[str] | list[list[int]]:
        given = _given(prompt)
        if not isinstance(given[0], str) and asked.data.get("model") in ROUTED:
            raise ValueError("token ids belong to one expert's tokenizer: name that expert as the model")
        if len(given) > 1 and asked.data.get("stream"):
            raise ValueError("several prompts can't be streamed")
        if (choices := len(given) * asked.data.get("n", 1)) > MAX_CHOICES:
            raise ValueError(f"a request may have at most {MAX_CHOICES} answers, not {choices}")
        return given

    @field_validator("echo")
    @classmethod
    def _of_what_is_known(cls, echo: bool, asked: ValidationInfo) -> bool:
        told = asked.data.get("logprobs") is not None
        if asked.data.get("max_tokens") == 0 and not (echo and told):
            raise ValueError("max_tokens may be 0 only with echo and logprobs")
        if echo and told and asked.data.get("stream"):
            raise ValueError("can't be streamed with logprobs")
        if echo and not told and not isinstance(asked.data.get("prompt", [""])[0], str):
            raise ValueError("requires logprobs if the prompt is token ids")
        return echo

    @property
    def scored(self) -> bool:
        """Whether the prompt's tokens get log-probabilities too."""
        return self.echo and self.logprobs is not None

    def apart(self) -> list[Self]:
        answers = super().apart()
        return [part.model_copy(update={"prompt": [one]}) for one in self.prompt for part in answers]

    def to_prompt(self) -> events_pb2.PromptSubmitted:
        prompt = self.prompt_of(max_tokens=self.max_tokens, json_schema=self.json_schema, top_logprobs=self.logprobs)
        prompt.sampling.prompt_logprobs = self.scored
        prompt.raw = True
        (asked,) = self.prompt
        if isinstance(asked, str):
            prompt.prompt = asked
        else:
            prompt.token_ids.extend(asked)
        return prompt

    def whole(self, result: events_pb2.PromptCompleted, head: Head) -> dict[str, Any]:
        answer = result.completion
        if self.scored and not answer.prompt_logprobs:
            raise Unavailable("a worker of an older version answered, without log-probabilities of the prompt")
        echoed = self._echoed(answer.prompt_logprobs)
        logprobs = None
        if self.logprobs is not None:
            logprobs = Likelihoods(len(echoed)).told(answer.logprobs)
            if self.echo:
                before = of_prompt(answer.prompt_logprobs, len(echoed))
                logprobs = {name: before[name] + told for name, told in logprobs.items()}
        text = echoed + answer.text
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": answer.finish_reason}
        return whole(head, *FORM, choice, result)

    def telling(self, head: Head) -> "CompletionChunks":
        return CompletionChunks(head, self._echoed(()), self.wants_usage)

    def _echoed(self, tokens: Iterable[common_pb2.TokenLogprob]) -> str:
        """The text to echo: the prompt, or the text its token ids decode to."""
        if not self.echo:
            return ""
        (asked,) = self.prompt
        return asked if isinstance(asked, str) else _text(tokens)


class CompletionChunks(Chunks):
    """Formats completion chunks. Only the last, with the finish reason, has no text.

    Benchmarks take the first chunk for the first token, so it must not be empty.
    """

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
    """Formats the log-probabilities of a text's tokens, as they arrive, in this API's own form.

    The text begins at `offset` characters into the choice.
    """

    def __init__(self, offset: int = 0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = offset

    def told(self, tokens: Sequence[common_pb2.TokenLogprob]) -> dict[str, list[Any]]:
        return {
            "tokens": [_spelt(token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_likeliest(token) for token in tokens],
            "text_offset": [self._past(token) for token in tokens],
        }

    def _past(self, token: common_pb2.TokenLogprob) -> int:
        """Returns the token's offset, in characters of the choice, and advances past it."""
        begins = self._offset
        self._offset += len(self._decoder.decode(token.token))
        return max(0, begins)


def of_prompt(tokens: Sequence[common_pb2.TokenLogprob], length: int) -> dict[str, list[Any]]:
    """The log-probabilities of a prompt of `length` characters.

    Offsets count back from the prompt's end, because a tokenizer may add tokens before its text. The first token has no
    log-probability.
    """
    told = Likelihoods(length - len(_text(tokens))).told(tokens)
    for name in ("token_logprobs", "top_logprobs"):
        told[name][0] = None
    return told


def _text(tokens: Iterable[common_pb2.TokenLogprob]) -> str:
    return b"".join(token.token for token in tokens).decode(errors="replace")


def _likeliest(token: common_pb2.TokenLogprob) -> dict[str, float]:
    """The likeliest tokens, and the token itself even if it is not among them."""
    found: dict[str, float] = {}
    for one in (*token.likeliest, token):
        found.setdefault(_spelt(one), one.logprob)
    return found


def _spelt(token: common_pb2.TokenLogprob) -> str:
    """The token's text, or its escaped bytes if they are not whole characters: names of tokens must be distinct."""
    try:
        return token.token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.token)
