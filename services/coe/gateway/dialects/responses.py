"""POST /v1/responses: continues a conversation. Nothing is stored."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Asked, Head, Tokens
from coe.gateway.dialects.formats import AnyText, FlatFormat
from coe.gateway.dialects.given import Given, Items
from coe.gateway.dialects.logprobs import TopLogprobs
from coe.gateway.dialects.response_events import ResponseEvents
from coe.gateway.dialects.response_input import Item, in_items
from coe.gateway.dialects.response_output import finished, output_of
from coe.gateway.dialects.tools import FlatOneTool, FlatTool, offer

LOGPROBS = "message.output_text.logprobs"


class TextOptions(Given):
    """Options for the text of the response."""

    format: FlatFormat = AnyText(type="text")
    verbosity: Literal["medium"] | None = None


class Reasoning(Given):
    """Reasoning options. No expert's reasoning is separated from its answer."""

    effort: Literal["none"] | None = None
    # Accepted and ignored: there is no reasoning to summarize.
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponseRequest(Asked):
    """The supported fields of a request."""

    input: Annotated[Items[Item], BeforeValidator(in_items), Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    tools: Items[FlatTool] = Field(default=[])
    tool_choice: Literal["none", "auto", "required"] | FlatOneTool = "auto"
    parallel_tool_calls: bool | None = None
    text: TextOptions = TextOptions()
    # Encrypted reasoning content is accepted and ignored: there is none.
    include: Items[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] = Field(default=[])
    top_logprobs: TopLogprobs = 0
    # Accepted only with the value that has no effect.
    background: Literal[False] = False
    reasoning: Reasoning | None = None
    truncation: Literal["disabled"] = "disabled"

    def to_prompt(self) -> events_pb2.PromptSubmitted:
        prompt = self.prompt_of(
            max_tokens=self.max_output_tokens,
            json_schema=self.text.format.schema_text(),
            top_logprobs=self.top_logprobs if self.top_logprobs or LOGPROBS in self.include else None,
        )
        turns = [common_pb2.ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        for item in self.input:
            item.add_to(turns)
        prompt.messages.extend(turns)
        offer(prompt, self.tools, self.tool_choice, self.parallel_tool_calls)
        return prompt

    def whole(self, result: events_pb2.PromptCompleted, head: Head) -> dict[str, Any]:
        output = output_of(result.completion, head.request_id, has_message=False)
        return finished(self._begun(head), result, output)

    def telling(self, head: Head) -> ResponseEvents:
        return ResponseEvents(self._begun(head), head.request_id)

    def _begun(self, head: Head) -> dict[str, Any]:
        asked = self.model_dump(
            mode="json",
            by_alias=True,
            include={
                "background",
                "instructions",
                "max_output_tokens",
                "prompt_cache_key",
                "safety_identifier",
                "text",
                "tool_choice",
                "tools",
                "top_logprobs",
                "truncation",
                "user",
            },
        )
        return {
            "id": f"resp_{head.request_id}",
            "object": "response",
            "created_at": head.created,
            "model": head.model,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            **asked,
            "parallel_tool_calls": self._may_call_several(),
            "temperature": self.temperature or 0.0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "metadata": self.metadata or {},
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            **head.why,
        }

    def _may_call_several(self) -> bool:
        """Unless the request says otherwise, an expert that must call a tool calls it once."""
        return self.tool_choice in ("auto", "none") if self.parallel_tool_calls is None else self.parallel_tool_calls
