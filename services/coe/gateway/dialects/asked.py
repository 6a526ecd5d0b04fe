"""The base of every dialect's request: the shared fields and the interface to format the answer.

Fields of the API that are not supported (images, audio ...) are rejected rather than ignored, unless their value has no
effect. A null field counts as absent.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.given import Given, Items
from coe.gateway.models import AUTO, BUDGETS
from coe.gateway.sse import Telling
from coe.platform.prompts import MAX_NAME_CHARS

Temperature = Annotated[float, Field(ge=0, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Tokens = Annotated[int, Field(ge=1, lt=2**32)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
# The API's seeds are signed, the generator's are not: negative ones are mapped modulo 2**64.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64), AfterValidator(lambda seed: seed % 2**64)]
Nothing = Annotated[list[Any] | dict[str, Any], Field(max_length=0)]


@dataclass(frozen=True, slots=True)
class Head:
    """The facts known when an answer begins. `model` is the expert's id.

    `why` holds the field `coe`, which explains the choice of expert; empty unless the request asked for it.
    """

    request_id: str
    model: str
    created: int
    why: dict[str, Any]


class StreamOptions(Given):
    """What a streamed answer carries in addition to text."""

    include_usage: bool = False
    # Accepted and ignored: usage is not known before the last chunk, which has it in any case.
    continuous_usage_stats: bool = False
    # Accepted and ignored: padding against inferring tokens from packet sizes is not supported.
    include_obfuscation: bool = False


def _in_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class Asked(Given, ABC):
    """The fields every request may have. Fields of other APIs and our own extensions come last."""

    model: Name = AUTO
    temperature: Temperature | None = None
    top_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Annotated[Items[str] | None, BeforeValidator(_in_list)] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Name | None = None
    # Prompts with the same key (a conversation, or a long common prefix) go to the same worker where possible.
    prompt_cache_key: Name | None = None
    # Accepted only with the value that has no effect.
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # The client's own bookkeeping.
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    # Not in OpenAI's API, but in compatible ones.
    top_k: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-3, le=1e3)] | None = None
    ignore_eos: bool = False
    # Our extension: the answer, or a stream's first chunk, explains the choice of expert in a field `coe`.
    explain: bool = False

    def apart(self) -> list[Self]:
        """Splits the request into one per answer."""
        return [self]

    def together(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Merges the answers to its parts into one."""
        (only,) = answers
        return only

    @abstractmethod
    def to_prompt(self) -> events_pb2.PromptSubmitted: ...

    @abstractmethod
    def whole(self, result: events_pb2.PromptCompleted, head: Head) -> dict[str, Any]:
        """The complete answer."""

    @abstractmethod
    def telling(self, head: Head) -> Telling:
        """The formatter of a streamed answer."""

    def prompt_of(
        self, *, max_tokens: int | None, json_schema: str | None, top_logprobs: int | None
    ) -> events_pb2.PromptSubmitted:
        """A prompt with everything the shared fields set, but without the input."""
        prompt = events_pb2.PromptSubmitted(
            sampling=common_pb2.SamplingParams(
                max_tokens=max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                frequency_penalty=self.frequency_penalty,
                presence_penalty=self.presence_penalty,
                seed=self.seed,
                stop=self.stop,
                json_schema=json_schema,
                top_logprobs=top_logprobs,
                ignore_eos=self.ignore_eos,
            ),
            tenant=self.user or "",
            conversation_id=self.prompt_cache_key or "",
        )
        if self.model in BUDGETS:
            prompt.budget.name = BUDGETS[self.model]
        elif self.model != AUTO:
            prompt.expert_id = self.model
        return prompt
