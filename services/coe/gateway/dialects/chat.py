"""POST /v1/chat/completions: continues a conversation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Head, Nothing, Tokens
from coe.gateway.dialects.choices import ChoiceRequest, Chunks, whole
from coe.gateway.dialects.given import Given, Items
from coe.gateway.dialects.logprobs import TopLogprobs, told
from coe.gateway.dialects.tools import Call, OneTool, Tool, calls, offer, streamed
from coe.platform.prompts import check_length


class TextPart(Given):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


def _in_parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _of_bounded_length(messages: object) -> object:
    """Checks the number of messages before they are validated, which is slow. Raises PromptTooLarge."""
    if isinstance(messages, list):
        check_length(len(messages))
    return messages


class Message(Given):
    """One turn. Supports only text and tool calls."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Items[TextPart] | None, BeforeValidator(_in_parts)] = None
    tool_calls: Items[Call] = Field(default=[])
    tool_call_id: str | None = None
    # Fields of responses that are sent back as input; `parsed` is added by OpenAI's client.
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


class ChatRequest(ChoiceRequest):
    """The supported fields of a request."""

    messages: Annotated[Items[Message], BeforeValidator(_of_bounded_length), Field(min_length=1)]
    max_completion_tokens: Tokens | None = None
    tools: Items[Tool] = Field(default=[])
    tool_choice: Literal["none", "auto", "required"] | OneTool | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0
    # Accepted only with the value that has no effect.
    modalities: Items[Literal["text"]] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _beside_logprobs(cls, top: int, asked: ValidationInfo) -> int:
        if top and not asked.data.get("logprobs"):
            raise ValueError("requires logprobs: true")
        return top

    def to_prompt(self) -> events_pb2.PromptSubmitted:
        prompt = self.prompt_of(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            json_schema=self.json_schema,
            top_logprobs=self.top_logprobs if self.logprobs else None,
        )
        prompt.messages.extend(message.to_proto() for message in self.messages)
        choice = self.tool_choice.function if isinstance(self.tool_choice, OneTool) else self.tool_choice
        offer(prompt, [tool.function for tool in self.tools], choice, self.parallel_tool_calls)
        return prompt

    def whole(self, result: events_pb2.PromptCompleted, head: Head) -> dict[str, Any]:
        answer = result.completion
        # Typed clients also require the fields that are null.
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool_calls:
            message |= {"content": answer.text or None, "tool_calls": calls(answer.tool_calls)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
        if self.logprobs:
            choice |= _logprobs(answer.logprobs)
        return whole(head, "chat.completion", "chatcmpl", choice, result)

    def telling(self, head: Head) -> "ChatChunks":
        return ChatChunks(head, "chat.completion.chunk", "chatcmpl", self.wants_usage)


def _logprobs(tokens: Sequence[common_pb2.TokenLogprob]) -> dict[str, Any]:
    return {"logprobs": {"content": told(tokens), "refusal": None}}


class ChatChunks(Chunks):
    """Formats chat chunks. The first has no text; the last carries the finish reason."""

    def begun(self) -> Iterable[str]:
        return [self.chunk({"delta": {"role": "assistant", "content": ""}})]

    def more(self, text: str, logprobs: Sequence[common_pb2.TokenLogprob]) -> Iterable[str]:
        return [self.chunk({"delta": {"content": text}} | (_logprobs(logprobs) if logprobs else {}))]

    def ended(self, result: events_pb2.PromptCompleted) -> Iterator[str]:
        answer = result.completion
        if answer.tool_calls:
            yield self.chunk({"delta": {"tool_calls": streamed(answer.tool_calls)}})
        yield self.chunk({"delta": {}}, answer.finish_reason)
        yield from self.end(result)
