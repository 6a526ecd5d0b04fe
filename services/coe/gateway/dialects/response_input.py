"""The input of /v1/responses: a list of items. A turn of the conversation may consist of several."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict

from coe._proto import common_pb2
from coe.gateway.dialects.given import Given, Items, by_type, form
from coe.platform.errors import PromptTooLarge
from coe.platform.prompts import MAX_MESSAGES

# A turn may consist of several items: its text, its calls, its reasoning.
MAX_ITEMS = 4 * MAX_MESSAGES


class Part(Given):
    """A part of a text."""

    type: Literal["input_text", "output_text"]
    text: str
    # Fields of responses that are sent back as input; `parsed` is added by OpenAI's client.
    annotations: Any = None
    logprobs: Any = None
    parsed: Any = None


def _in_parts(content: object) -> object:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


Text = Annotated[Items[Part], BeforeValidator(_in_parts)]


class SentBack(Given):
    """The fields of items that were part of a response and are sent back."""

    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class MessageItem(SentBack):
    """A turn, or the text of a turn whose calls follow."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text
    phase: Literal["commentary", "final_answer"] | None = None

    def add_to(self, turns: list[common_pb2.ChatMessage]) -> None:
        role = "system" if self.role == "developer" else self.role
        turns.append(common_pb2.ChatMessage(role=role, content=text_of(self.content)))


class CallItem(SentBack):
    """A call requested by the assistant's turn."""

    type: Literal["function_call"]
    call_id: str
    name: str
    # JSON text.
    arguments: str
    parsed_arguments: Any = None

    def add_to(self, turns: list[common_pb2.ChatMessage]) -> None:
        if not turns or turns[-1].role != "assistant":
            turns.append(common_pb2.ChatMessage(role="assistant"))
        turns[-1].tool_calls.add(id=self.call_id, name=self.name, arguments=self.arguments)


class CallOutputItem(SentBack):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: Text
    name: str | None = None

    def add_to(self, turns: list[common_pb2.ChatMessage]) -> None:
        turns.append(common_pb2.ChatMessage(role="tool", content=text_of(self.output), tool_call_id=self.call_id))


class ReasoningItem(Given):
    """Another model's reasoning from earlier in the conversation. Ignored: no chat template takes it."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["reasoning"]

    def add_to(self, turns: list[common_pb2.ChatMessage]) -> None:
        pass


Item = Annotated[
    Annotated[MessageItem, form("message")]
    | Annotated[CallItem, form("function_call")]
    | Annotated[CallOutputItem, form("function_call_output")]
    | Annotated[ReasoningItem, form("reasoning")],
    by_type("items of type message, function_call and function_call_output", unsaid="message"),
]


def in_items(asked: object) -> object:
    """Normalizes the input to a list of items. Raises PromptTooLarge before the items are validated, which is slow."""
    if isinstance(asked, list) and len(asked) > MAX_ITEMS:
        message = f"the conversation has {len(asked)} items, the limit is {MAX_ITEMS}"
        raise PromptTooLarge(message, items=len(asked), limit=MAX_ITEMS)
    return [{"role": "user", "content": asked}] if isinstance(asked, str) else asked


def text_of(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)
