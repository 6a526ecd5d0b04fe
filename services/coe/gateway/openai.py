"""The OpenAI chat-completions dialect: its requests as prompts, our events as its responses. No I/O.

`model` "coe-auto" routes; any other name asks for that expert. "coe-quality", "coe-balanced" and "coe-economy" route
under that budget. Fields of the API that we can't honour (n > 1, images ...) are refused rather than ignored,
unless their value asks for nothing. Null is the same as no field.
"""

import json
import string
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict
from pydantic import BeforeValidator, Field, model_validator

from coe._proto import common_pb2, events_pb2
from coe.gateway.given import Given
from coe.gateway.tools import Call, OneTool, Tool, calls
from coe.platform.prompts import MAX_NAME_CHARS

AUTO = "coe-auto"
# What a header may hold as it is.
PRINTABLE = string.printable.strip().replace("%", "") + " "
BUDGETS = {f"coe-{name}": name for name in ("quality", "balanced", "economy")}
Temperature = Annotated[float, Field(ge=0, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Tokens = Annotated[int, Field(ge=1, lt=2**32)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
Nothing = Annotated[list[Any] | dict[str, Any], Field(max_length=0)]


class TextPart(Given):
    """One part of a message that is given in parts."""

    type: Literal["text"]
    text: str


def _in_parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _in_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class Message(Given):
    """One turn. Only text and calls are served."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[list[TextPart] | None, BeforeValidator(_in_parts)] = None
    tool_calls: list[Call] = Field(default=[])
    tool_call_id: str | None = None
    # What an answer of that API may carry along when it is sent back, and what its client adds.
    name: str | None = None
    annotations: Nothing | None = None
    parsed: Any = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content")
        return self

    def to_proto(self) -> common_pb2.ChatMessage:
        return common_pb2.ChatMessage(
            role="system" if self.role == "developer" else self.role,
            content="".join(part.text for part in self.content or ()),
            tool_calls=[call.to_proto() for call in self.tool_calls],
            tool_call_id=self.tool_call_id or "",
        )


class NamedSchema(Given):
    """What the answer is to be. It is followed to the letter, whatever `strict` says."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(default={}, alias="schema")
    strict: bool | None = None


class AnyText(Given):
    """Text as it comes."""

    type: Literal["text"]

    def schema_text(self) -> None:
        return None


class AnyObject(Given):
    """A JSON object."""

    type: Literal["json_object"]

    def schema_text(self) -> str:
        return '{"type": "object"}'


class OfSchema(Given):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def schema_text(self) -> str:
        return json.dumps(self.json_schema.schema_)


class StreamOptions(Given):
    """What a streamed answer carries beside text."""

    include_usage: bool = False
    # Against those who tell tokens by the sizes of packets: ours are never padded.
    include_obfuscation: bool = False


class ChatRequest(Given):
    """The fields of POST /v1/chat/completions that are served, and our own `coe` extras at the end."""

    model: Name = AUTO
    messages: list[Message] = Field(min_length=1)
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_in_list)] = None
    tools: list[Tool] = Field(default=[])
    tool_choice: Literal["none", "auto", "required"] | OneTool | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Name | None = None
    # Prompts of one conversation, or of one long beginning, go to the same worker where they can.
    prompt_cache_key: Name | None = None
    # Accepted only at the value that changes nothing.
    n: Literal[1] = 1
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    logit_bias: Nothing | None = None
    response_format: Annotated[AnyText | AnyObject | OfSchema, Field(discriminator="type")] | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # What others keep books with.
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    # Not of that API, but of others that speak its dialect.
    top_k: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-3, le=1e3)] | None = None
    # Ours: the answer, or the first chunk of a stream, says in a field `coe` why this expert gives it.
    explain: bool = False

    @model_validator(mode="after")
    def _has_what_it_chooses(self) -> Self:
        if self.tool_choice not in (None, "none", "auto") and not any(map(self._may_call, self.tools)):
            raise ValueError("tool_choice: none of the tools has that name")
        return self

    def to_prompt(self) -> events_pb2.PromptSubmitted:
        prompt = events_pb2.PromptSubmitted(
            messages=[message.to_proto() for message in self.messages],
            sampling=common_pb2.SamplingParams(
                max_tokens=self.max_completion_tokens or self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                frequency_penalty=self.frequency_penalty,
                presence_penalty=self.presence_penalty,
                seed=self.seed,
                stop=self.stop,
                json_schema=self.response_format.schema_text() if self.response_format else None,
            ),
            tenant=self.user or "",
            conversation_id=self.prompt_cache_key or "",
        )
        if self.tools:
            prompt.tools.extend(tool.to_proto() for tool in self.tools if self._may_call(tool))
            prompt.tool_choice = "required" if isinstance(self.tool_choice, OneTool) else self.tool_choice or "auto"
            prompt.parallel_tool_calls = self.parallel_tool_calls is not False
        if self.model in BUDGETS:
            prompt.budget.name = BUDGETS[self.model]
        elif self.model != AUTO:
            prompt.expert_id = self.model
        return prompt

    def _may_call(self, tool: Tool) -> bool:
        return not isinstance(self.tool_choice, OneTool) or tool.function.name == self.tool_choice.function.name


def model_card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "coe"}


def chunk(request_id: str, created: int, model: str, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    """One `chat.completion.chunk`."""
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def completion(result: events_pb2.PromptCompleted, created: int) -> dict[str, Any]:
    """The whole answer as a `chat.completion`."""
    answer = result.completion
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.tool_calls:
        message |= {"content": answer.text or None, "tool_calls": calls(answer.tool_calls)}
    return {
        "id": f"chatcmpl-{result.request_id}",
        "object": "chat.completion",
        "created": created,
        "model": result.assignment.expert_id,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
        "usage": usage(result.usage),
    }


def usage(counts: common_pb2.Usage) -> dict[str, int]:
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }


def decision_headers(routing: common_pb2.RoutingDecision, assignment: common_pb2.Assignment) -> dict[str, str]:
    """Why this expert, in response headers: those that apply, percent-encoded where a header can't hold them."""
    confidence = f"{routing.confidence:.3f}" if routing.category else ""
    facts = {
        "expert": assignment.expert_id,
        "reason": assignment.reason,
        "category": routing.category,
        "subcategory": routing.subcategory,
        "confidence": confidence,
        "fallback": routing.fallback_reason,
        "budget": assignment.budget,
        "router-version": routing.router_version,
        "mapping-version": assignment.mapping_version,
    }
    return {f"x-coe-{name}": quote(value, safe=PRINTABLE) for name, value in facts.items() if value}


def explanation(routing: common_pb2.RoutingDecision, assignment: common_pb2.Assignment) -> dict[str, Any]:
    """Why this expert, whole: for the field `coe` of an answer whose request asked for it."""
    return {
        "routing": MessageToDict(routing, preserving_proto_field_name=True),
        "assignment": MessageToDict(assignment, preserving_proto_field_name=True),
    }
