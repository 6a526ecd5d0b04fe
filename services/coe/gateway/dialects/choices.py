"""The part shared by dialects that answer with a list of choices, `n` per prompt."""

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

# Maximum per request. Each choice is as much work as a request with a single one.
MAX_CHOICES = 64


class ChoiceRequest(Asked, ABC):
    """A request answered with a list of choices."""

    max_tokens: Tokens | None = None
    response_format: Format | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    # Accepted only with the value that has no effect.
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
        """Splits the request into one per answer, with consecutive seeds starting at the given one."""
        if self.n == 1:
            return [self]
        seeds = [None if self.seed is None else (self.seed + index) % 2**64 for index in range(self.n)]
        return [self.model_copy(update={"n": 1, "seed": seed}) for seed in seeds]

    def together(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Merges the answers, which are in the order of `apart`.

        If several experts answered, `model` is the one the client asked for.
        """
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
    """A complete answer with this one choice."""
    return envelope(head, kind, prefix) | {"choices": [choice], "usage": usage(result.usage)} | head.why


def _usage_of(answers: Sequence[dict[str, Any]], n: int) -> dict[str, Any]:
    """The total usage of all answers. Each prompt's tokens count once, however many answers it has."""
    prompts, written = _sum(answers[::n]), _sum(answers)["completion_tokens"]
    return prompts | {"completion_tokens": written, "total_tokens": prompts["prompt_tokens"] + written}


def _sum(counts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: _sum([one[name] for one in counts]) if isinstance(first, dict) else sum(one[name] for one in counts)
        for name, first in counts[0].items()
    }


class Chunks:
    """Formats an answer as a stream of chunks. `kind` and `prefix` (of the id) are the dialect's."""

    def __init__(self, head: Head, kind: str, prefix: str, with_usage: bool) -> None:
        # In OpenAI's API, once usage is requested, every chunk has the field.
        self._envelope = envelope(head, kind, prefix) | ({"usage": None} if with_usage else {})
        self._with_usage = with_usage
        # Sent in the first chunk.
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
