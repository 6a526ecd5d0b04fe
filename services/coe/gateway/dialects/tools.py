"""Function tools and their calls."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.given import Given
from coe.platform.errors import InvalidPrompt


class Function(Given):
    """A function. Its arguments always follow the schema, whatever `strict` says."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def to_proto(self) -> common_pb2.Tool:
        parameters = "" if self.parameters is None else json.dumps(self.parameters, ensure_ascii=False)
        return common_pb2.Tool(name=self.name, description=self.description, parameters=parameters)


class Typed(Given):
    """The only supported type of tool."""

    type: Literal["function"]


class Tool(Typed):
    function: Function


class FlatTool(Function, Typed):
    """`Tool` in the flat form of /v1/responses."""


class Named(Given):
    name: str


class OneTool(Typed):
    """A `tool_choice` that names the function to call."""

    function: Named


class FlatOneTool(Named, Typed):
    """`OneTool` in the flat form of /v1/responses."""


class Called(Given):
    name: str
    # JSON text.
    arguments: str
    # Added by OpenAI's client.
    parsed_arguments: Any = None


class Call(Given):
    """A call requested by an answer, sent back as input."""

    id: str
    type: Literal["function"] = "function"
    function: Called
    # Set in calls kept from a streamed answer.
    index: int | None = None

    def to_proto(self) -> common_pb2.ToolCall:
        return common_pb2.ToolCall(id=self.id, name=self.function.name, arguments=self.function.arguments)


def offer(
    prompt: events_pb2.PromptSubmitted, functions: Sequence[Function], choice: Named | str | None, parallel: bool | None
) -> None:
    """Adds the functions to the prompt. If `choice` names one, only that one is offered, to be called exactly once.

    Raises InvalidPrompt if `choice` requires a call but no such function exists.
    """
    offered = [one for one in functions if not isinstance(choice, Named) or one.name == choice.name]
    if not offered and choice not in (None, "none", "auto"):
        lacking = "none of the tools has that name" if functions else "there are no tools"
        raise InvalidPrompt(f"tool_choice: {lacking}", param="tool_choice")
    if offered:
        prompt.tools.extend(one.to_proto() for one in offered)
        prompt.tool_choice = "required" if isinstance(choice, Named) else choice or "auto"
        if isinstance(choice, Named) or parallel is not None:
            prompt.parallel_tool_calls = bool(parallel) and not isinstance(choice, Named)


def calls(asked: Iterable[common_pb2.ToolCall]) -> list[dict[str, Any]]:
    """The calls of a complete answer."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in asked
    ]


def streamed(asked: Iterable[common_pb2.ToolCall]) -> list[dict[str, Any]]:
    """The calls of a streamed answer, each complete in one delta."""
    return [{"index": index, **call} for index, call in enumerate(calls(asked))]
