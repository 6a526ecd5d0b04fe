"""What the dialects have in common whose answers are a list of choices: `n` for each prompt."""

from abc import ABC
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Asked, Head, Nothing, Tokens
from coe.gateway.dialects.formats import Format
from coe.gateway.refusals import error_body
from coe.gateway.sse import event
from coe.platform.errors import CoEError

# Of one request: each is as much work as a request's only one.
MAX_CHOICES = 64


class ChoiceRequest(Asked, ABC):
    """A request for a list of choices."""

    max_tokens: Tokens | None = None
    response_format: Format | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    # Accepted only at the value that changes nothing.
    logit_bias: Nothing | None = None

    @field_validator("n")
    @classmethod
    def _that_differ(cls, n: int, asked: ValidationInfo) -> int:
        if n > 1 and not asked.data.get("temperature"):
            raise ValueError("all answers are the same at temperature 0, the default: only 1 is possible")
        if n > 1 and asked.data.get("stream"):
            raise ValueError("several answers can't be streamed")
        return n

    def apart(self) -> list[Self]:
        """A request for each answer, with a seed of its own: the one that was given, and those that follow it."""
        if self.n == 1:
            return [self]
        seeds = [None if self.seed is None else (self.seed + index) % 2**64 for index in range(self.n)]
        return [self.model_copy(update={"n": 1, "seed": seed}) for seed in seeds]

    def together(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """In the order of `apart`. It is that of the model that was asked for where several experts answered."""
        models = {answer["model"] for answer in answers}
        choices = [
            choice | {"index": index} | ({"coe": answer["coe"]} if "coe" in answer else {})
            for index, answer in enumerate(answers)
            for choice in answer["choices"]
        ]
        return {
            **{name: answers[0][name] for name in ("id", "object", "created")},
            "model": models.pop() if len(models) == 1 else self.model,
            "choices": choices,
            "usage": _usage_of([answer["usage"] for answer in answers], self.n),
        }

    @property
    def json_schema(self) -> str | None:
        return self.response_format.schema_text() if self.response_format else None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def whole(
    head: Head, kind: str, prefix: str, choice: dict[str, Any], result: events_pb2.PromptCompleted
) -> dict[str, Any]:
    """The answer whose one choice that is."""
    return envelope(head, kind, prefix) | {"choices": [choice], "usage": usage(result.usage)} | head.why


def _usage_of(answers: Sequence[dict[str, Any]], n: int) -> dict[str, Any]:
    """A prompt is counted once, whatever the number of its answers."""
    prompts, written = _sum(answers[::n]), _sum(answers)["completion_tokens"]
    return prompts | {"completion_tokens": written, "total_tokens": prompts["prompt_tokens"] + written}


def _sum(counts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: _sum([one[name] for one in counts]) if isinstance(first, dict) else sum(one[name] for one in counts)
        for name, first in counts[0].items()
    }


class Chunks:
    """An answer as chunks of the form that the whole one has. `kind` and `prefix` (of its id) are the dialect's."""

    def __init__(self, head: Head, kind: str, prefix: str, with_usage: bool) -> None:
        # That API's chunks have the field as soon as it is asked for.
        self._envelope = envelope(head, kind, prefix) | ({"usage": None} if with_usage else {})
        self._with_usage = with_usage
        # In the first one.
        self._why = head.why

    def chunk(self, choice: dict[str, Any], finish: str | None = None) -> str:
        why, self._why = self._why, {}
        return event(self._envelope | {"choices": [{"index": 0, **choice, "finish_reason": finish}]} | why)

    def end(self, result: events_pb2.PromptCompleted) -> Iterator[str]:
        if self._with_usage:
            yield event(self._envelope | {"choices": [], "usage": usage(result.usage)})
        yield "data: [DONE]\n\n"

    def failed(self, error: CoEError) -> Iterable[str]:
        return [event(error_body(error))]


def envelope(head: Head, kind: str, prefix: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{head.request_id}", "object": kind, "created": head.created, "model": head.model}


def usage(counts: common_pb2.Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
    }
