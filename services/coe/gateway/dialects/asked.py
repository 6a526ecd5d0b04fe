"""What a request has in every dialect, and what its answer needs of it.

Fields of an API that we can't honour (images, audio ...) are refused rather than ignored, unless their value asks for
nothing. Null is the same as no field.
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
# That API's are signed. What a generator takes is not, and a negative one is as good as any.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64), AfterValidator(lambda seed: seed % 2**64)]
Nothing = Annotated[list[Any] | dict[str, Any], Field(max_length=0)]


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer begins with. `why` says in a field `coe` why `model`, an expert, gives it, if that was asked."""

    request_id: str
    model: str
    created: int
    why: dict[str, Any]


class StreamOptions(Given):
    """What a streamed answer carries beside text."""

    include_usage: bool = False
    # In each chunk: of a prompt's tokens it is not known before the last one, which has it as ever.
    continuous_usage_stats: bool = False
    # Against those who tell tokens by the sizes of packets: ours are never padded.
    include_obfuscation: bool = False


def _in_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class Asked(Given, ABC):
    """The fields that every request may have. Our own extras stand at the end."""

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
    # Prompts of one conversation, or of one long beginning, go to the same worker where they can.
    prompt_cache_key: Name | None = None
    # Accepted only at the value that changes nothing.
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # What others keep books with.
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    # Of no such API, but of others that speak its dialect.
    top_k: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-3, le=1e3)] | None = None
    ignore_eos: bool = False
    # Ours: the answer, or the first chunk of a stream, says in a field `coe` why this expert gives it.
    explain: bool = False

    def apart(self) -> list[Self]:
        """A request for each of its answers."""
        return [self]

    def together(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """One answer of those to its parts."""
        (only,) = answers
        return only

    @abstractmethod
    def to_prompt(self) -> events_pb2.PromptSubmitted: ...

    @abstractmethod
    def whole(self, result: events_pb2.PromptCompleted, head: Head) -> dict[str, Any]:
        """The answer, when all of it is there."""

    @abstractmethod
    def telling(self, head: Head) -> Telling:
        """The same as it comes."""

    def prompt_of(
        self, *, max_tokens: int | None, json_schema: str | None, top_logprobs: int | None
    ) -> events_pb2.PromptSubmitted:
        """What the fields that are here ask for, without the question itself."""
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
