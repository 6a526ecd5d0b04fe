"""Functions and their calls in OpenAI's dialect. No I/O."""

import json
from collections.abc import Iterable
from typing import Any, Literal

from coe._proto import common_pb2
from coe.gateway.given import Given


class Function(Given):
    """Arguments are held to the schema, whatever `strict` says."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Given):
    type: Literal["function"]
    function: Function

    def to_proto(self) -> common_pb2.Tool:
        function = self.function
        parameters = "" if function.parameters is None else json.dumps(function.parameters, ensure_ascii=False)
        return common_pb2.Tool(name=function.name, description=function.description, parameters=parameters)


class Named(Given):
    name: str


class OneTool(Given):
    """The one function that is to be called."""

    type: Literal["function"]
    function: Named


class Called(Given):
    name: str
    # JSON, as text.
    arguments: str
    # What OpenAI's client adds.
    parsed_arguments: Any = None


class Call(Given):
    """A call that an answer asked for, as it is sent back."""

    id: str
    type: Literal["function"] = "function"
    function: Called
    # Of a streamed answer's, where it is kept.
    index: int | None = None

    def to_proto(self) -> common_pb2.ToolCall:
        return common_pb2.ToolCall(id=self.id, name=self.function.name, arguments=self.function.arguments)


def calls(asked: Iterable[common_pb2.ToolCall]) -> list[dict[str, Any]]:
    """Of an answer."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in asked
    ]


def streamed(asked: Iterable[common_pb2.ToolCall]) -> list[dict[str, Any]]:
    """Each whole in one delta."""
    return [{"index": index, **call} for index, call in enumerate(calls(asked))]
