"""A conversation for an expert to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from coe._proto import common_pb2, events_pb2
from coe.experts.tool_calls import ToolUse
from coe.platform.tools import arguments

# In the form of chat templates: "role", "content", an assistant's "tool_calls", a tool's "tool_call_id".
Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Turns, the last of which is to be answered, and the tools that the answer may call. `raw`: the text of the only
    turn is continued without a chat template. `token_ids`: continued in place of turns. Only conversations with the
    same `past` share a prefix cache.
    """

    turns: Sequence[Turn]
    tools: ToolUse | None = None
    raw: bool = False
    past: str = ""
    token_ids: Sequence[int] = ()

    @classmethod
    def of(cls, text: str) -> Self:
        """A single user message."""
        return cls(({"role": "user", "content": text},))

    @classmethod
    def from_proto(cls, prompt: events_pb2.PromptSubmitted, past: str = "") -> Self:
        """Raises InvalidPrompt."""
        turns = tuple(map(_turn, prompt.messages)) or cls.of(prompt.prompt).turns
        return cls(turns, ToolUse.from_proto(prompt), prompt.raw, past, tuple(prompt.token_ids))


def _turn(message: common_pb2.ChatMessage) -> Turn:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments(call)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn
