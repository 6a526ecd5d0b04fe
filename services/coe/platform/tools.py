"""Validates the functions a prompt offers, and the calls in a conversation. Pure."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from coe._proto import common_pb2, events_pb2
from coe.platform.errors import InvalidPrompt

MAX_TOOLS = 128
# Limit for all schemas together. Compiling that much takes a tenth of a second, during which generation stands still.
MAX_SCHEMA_CHARS = 1 << 18
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
AUTO, REQUIRED, NONE = "auto", "required", "none"
# "" means auto.
CHOICES = frozenset({"", AUTO, REQUIRED, NONE})
NO_ARGUMENTS = {"type": "object", "additionalProperties": False}


def check(prompt: events_pb2.PromptSubmitted) -> None:
    """Checks the prompt's tools and tool choice. Raises InvalidPrompt."""
    if len(prompt.tools) > MAX_TOOLS:
        raise InvalidPrompt(f"tools: more than {MAX_TOOLS}", param="tools")
    for name, count in Counter(tool.name for tool in prompt.tools).items():
        if not NAME.fullmatch(name):
            raise InvalidPrompt(
                f"tools: {name[:80]!r} is not a valid name: up to 64 letters, digits, _ and -", param="tools"
            )
        if count > 1:
            raise InvalidPrompt(f"tools: {count} are named {name!r}", param="tools")
    if sum(len(tool.parameters) for tool in prompt.tools) > MAX_SCHEMA_CHARS:
        raise InvalidPrompt(f"tools: parameters of more than {MAX_SCHEMA_CHARS} characters in all", param="tools")
    for tool in prompt.tools:
        arguments_schema(tool)
    if prompt.tool_choice not in CHOICES:
        raise InvalidPrompt(
            f"tool_choice {prompt.tool_choice[:40]!r} is none of auto, required, none", param="tool_choice"
        )
    if prompt.tool_choice == REQUIRED and not prompt.tools:
        raise InvalidPrompt("tool_choice is required, but there are no tools", param="tool_choice")


def check_calls(messages: Sequence[common_pb2.ChatMessage]) -> None:
    """Checks the tool calls of a conversation. Raises InvalidPrompt."""
    for message in messages:
        if message.tool_calls and message.role != "assistant":
            raise InvalidPrompt(
                f"messages: only the assistant may have tool_calls, not {message.role!r}", param="messages"
            )
        for call in message.tool_calls:
            if not NAME.fullmatch(call.name):
                raise InvalidPrompt(
                    f"messages: a call of {call.name[:80]!r}, which is not a valid name", param="messages"
                )
            arguments(call)


def arguments_schema(tool: common_pb2.Tool) -> dict[str, Any]:
    """The JSON schema of a tool's arguments. Raises InvalidPrompt if it is not the schema of an object."""
    if not tool.parameters.strip():
        return NO_ARGUMENTS
    schema = _object(tool.parameters)
    if schema is None or schema.get("type", "object") != "object":
        raise InvalidPrompt(f"tools: {tool.name}'s parameters are not a JSON schema of an object", param="tools")
    return {**schema, "type": "object"}


def arguments(call: common_pb2.ToolCall) -> dict[str, Any]:
    """The arguments of a call. Raises InvalidPrompt if they are not a JSON object."""
    values = _object(call.arguments) if call.arguments.strip() else {}
    if values is None:
        raise InvalidPrompt(
            f"messages: the arguments of a call of {call.name[:64]!r} are no JSON object", param="messages"
        )
    return values


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
        # Rejects lone surrogates, which JSON can express but UTF-8 cannot.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
