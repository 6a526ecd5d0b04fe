"""Sampling parameters. Defaults are those documented in coe.v1.SamplingParams."""

from dataclasses import dataclass, replace
from typing import Self

from coe._proto import common_pb2
from coe.platform.errors import InvalidPrompt

# Limit of an answer whose prompt sets no max_tokens.
DEFAULT_TOKENS = 1024
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 1024
MAX_SCHEMA_LENGTH = 1 << 16
MAX_TOP_LOGPROBS = 20
# Limit for all tokens of an answer, and of its prompt with prompt_logprobs: they are sent in one message.
MAX_LOGPROBS = 1 << 14


@dataclass(frozen=True)
class SamplingParams:
    """Raises InvalidPrompt for a value outside its range."""

    max_tokens: int = DEFAULT_TOKENS
    # Whether max_tokens may be lowered to what the context leaves.
    at_most: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    # None: random, so that answers differ.
    seed: int | None = None
    stop: tuple[str, ...] = ()
    # None: any text.
    json_schema: str | None = None
    # Report each token's logprob, and those of this many likeliest tokens; None: no logprobs.
    top_logprobs: int | None = None
    # The same for the prompt's tokens.
    prompt_logprobs: bool = False
    # End-of-turn tokens don't end the answer, and add no text.
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        schema = len(self.json_schema or "")
        stops = all(1 <= len(text) <= MAX_STOP_LENGTH for text in self.stop)
        each = 0 if self.top_logprobs is None or self.at_most else 1 + self.top_logprobs
        told = self.max_tokens * each <= MAX_LOGPROBS
        checks = {
            "max_tokens must be at least 1": self.max_tokens >= 1 or self.prompt_logprobs,
            "temperature must be between 0 and 100": 0 <= self.temperature <= 100,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "top_k must not be negative": self.top_k >= 0,
            "min_p must be between 0 and 1": 0 <= self.min_p <= 1,
            "repetition_penalty must be between 0.001 and 1000": 1e-3 <= self.repetition_penalty <= 1e3,
            "frequency_penalty must be between -2 and 2": -2 <= self.frequency_penalty <= 2,
            "presence_penalty must be between -2 and 2": -2 <= self.presence_penalty <= 2,
            "seed must be an unsigned 64-bit integer": self.seed is None or 0 <= self.seed < 1 << 64,
            f"stop must be at most {MAX_STOP_STRINGS} strings": len(self.stop) <= MAX_STOP_STRINGS,
            f"stop must be strings of 1 to {MAX_STOP_LENGTH} characters": stops,
            f"top_logprobs must be at most {MAX_TOP_LOGPROBS}": 0 <= (self.top_logprobs or 0) <= MAX_TOP_LOGPROBS,
            f"top_logprobs must give at most {MAX_LOGPROBS} logprobs in all: max_tokens x (1 + top_logprobs)": told,
            "prompt_logprobs needs top_logprobs": not self.prompt_logprobs or self.top_logprobs is not None,
            f"json_schema must be at most {MAX_SCHEMA_LENGTH} characters": schema <= MAX_SCHEMA_LENGTH,
        }
        for message, holds in checks.items():
            if not holds:
                raise InvalidPrompt(message, param=message.partition(" ")[0])

    @classmethod
    def from_proto(cls, sampling: common_pb2.SamplingParams) -> Self:
        """Fields that are not set keep their defaults. Raises InvalidPrompt."""
        fields = {field.name: value for field, value in sampling.ListFields()}
        if "stop" in fields:
            fields["stop"] = tuple(sampling.stop)
        return cls(**fields, at_most="max_tokens" not in fields)

    def within(self, context: int, prompt_tokens: int) -> Self:
        """The parameters for a prompt of this length. Raises InvalidPrompt when it is too long for prompt_logprobs."""
        told = context if self.top_logprobs is None else MAX_LOGPROBS // (1 + self.top_logprobs)
        of_prompt = prompt_tokens if self.prompt_logprobs else 0
        most = min(context - prompt_tokens, told - of_prompt)
        params = replace(self, max_tokens=max(1, min(self.max_tokens, most))) if self.at_most else self
        if of_prompt + params.max_tokens > told and of_prompt:
            raise InvalidPrompt(
                f"{prompt_tokens} prompt tokens and {params.max_tokens} new ones are too many for prompt_logprobs: "
                f"at most {told} with {self.top_logprobs} top_logprobs",
                param="prompt_logprobs",
            )
        return params

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def takes_likeliest(self) -> bool:
        """Whether the next token is the one with the highest logit, unless a grammar forbids it."""
        return self.greedy and self.repetition_penalty == 1 and not self.penalises_the_answer

    @property
    def penalises_the_answer(self) -> bool:
        return self.frequency_penalty != 0 or self.presence_penalty != 0
