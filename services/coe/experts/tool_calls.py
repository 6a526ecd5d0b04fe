"""Tool calls: the grammar that constrains how an expert writes them, and the parser that reads them (ADR 17).

All experts write them in the same form, which many models were trained on:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Rome"}}
    </tool_call>
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from coe._proto import common_pb2, events_pb2
from coe.experts.call_marks import BEGIN, END
from coe.experts.closed_schema import close, parts_of
from coe.experts.grammar import WHITESPACE, Grammar
from coe.experts.stop_strings import StopStrings
from coe.platform import tools
from coe.platform.errors import InvalidPrompt

# Parts of regular expressions that the grammar library can't follow: lookaround and backreferences.
_UNHELD = re.compile(r"(?<!\\)(\(\?<?[=!]|\\[1-9])")


@dataclass(frozen=True)
class Tool:
    """`parameters` is the JSON schema of its arguments, as text."""

    name: str
    description: str
    parameters: str

    @classmethod
    def from_proto(cls, tool: common_pb2.Tool) -> Self:
        return cls(tool.name, tool.description, json.dumps(tools.arguments_schema(tool), ensure_ascii=False))

    def spec(self) -> dict[str, Any]:
        """The form that chat templates expect."""
        function = {"name": self.name, "description": self.description, "parameters": json.loads(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolUse:
    """What an answer may call. `required`: it consists of calls only. `single`: of at most one."""

    tools: tuple[Tool, ...]
    required: bool = False
    single: bool = False

    @classmethod
    def from_proto(cls, prompt: events_pb2.PromptSubmitted) -> Self | None:
        """None for a prompt that offers no tools. Raises InvalidPrompt."""
        if not prompt.tools or prompt.tool_choice == tools.NONE:
            return None
        required = prompt.tool_choice == tools.REQUIRED
        # Small experts that must call keep calling until they run out of tokens, so several calls are opt-in.
        single = not prompt.parallel_tool_calls if prompt.HasField("parallel_tool_calls") else required
        return cls(tuple(map(Tool.from_proto, prompt.tools)), required, single)

    def reader(self, json_schema: str | None = None) -> "CallReader":
        """A reader for such an answer."""
        return CallReader(calls_first=self.required or json_schema is not None)

    def grammar(self, json_schema: str | None = None) -> Grammar:
        """A grammar for the whole answer: text, JSON of `json_schema`, or calls, with or without text before them."""
        calls = "call" if self.single else rf'call ("\n{BEGIN}" call)*'
        if self.required:
            start = [f'start: "{BEGIN}" {calls}']
        elif json_schema is not None:
            start = [f'start: %json {_held(_parsed(json_schema))} | "{BEGIN}" {calls}']
        else:
            start = [f"start: TEXT | front {calls}", f'front[lazy]: TEXT "{BEGIN}"', r"TEXT: /(.|\n)*/"]
        named = {f"call_{index}": tool for index, tool in enumerate(self.tools)}
        call = rf'call: "\n" ({" | ".join(named)}) "}}\n{END}"'
        each = [f"{rule}: {json.dumps(_opening(tool.name))} %json {_arguments(tool)}" for rule, tool in named.items()]
        return Grammar("\n".join(["%llguidance {}", *start, call, *each]), "tools")


@dataclass(frozen=True)
class ToolCall:
    """`arguments`: a JSON object, as text."""

    name: str
    arguments: str

    def spelled(self) -> str:
        return f"{BEGIN}\n{_opening(self.name)}{self.arguments}}}\n{END}"


class CallReader:
    """Splits an answer, as it is generated, into the text before its tool calls and the calls.

    `calls_first`: an answer that does not start with a call is JSON and has no calls, whatever its strings contain.
    """

    def __init__(self, *, calls_first: bool = False) -> None:
        self._front = StopStrings((BEGIN,))
        self._whole: list[str] = []
        self._undecided = self._calls_first = calls_first

    def push(self, text: str) -> str:
        """The part that is certain to be text before any call."""
        if self._undecided and text:
            self._undecided = False
            if text[0] != BEGIN[0]:
                self._front, self._calls_first = StopStrings(()), False
        self._whole.append(text)
        return self._front.push(text)

    def flush(self) -> str:
        """The text held back, once the answer has ended."""
        return "" if self._calls_first else self._front.flush()

    def calls(self) -> tuple[ToolCall, ...]:
        """The complete calls."""
        return tuple(_calls("".join(self._whole))) if self._front.stopped else ()


def _calls(text: str) -> Iterator[ToolCall]:
    # Numbers stay text: they may have more digits than Python's int() accepts.
    decoder, at = json.JSONDecoder(parse_int=str), text.find(BEGIN)
    while at >= 0:
        head, marker, _ = text[at + len(BEGIN) + 1 :].partition('", "arguments": ')
        begin = at + len(BEGIN) + 1 + len(head) + len(marker)
        try:
            _, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return
        if not text.startswith(f"}}\n{END}", end):
            return
        yield ToolCall(head.removeprefix('{"name": "'), text[begin:end])
        at = text.find(BEGIN, end)


def _opening(name: str) -> str:
    return f'{{"name": "{name}", "arguments": '


def _arguments(tool: Tool) -> str:
    """A schema without properties allows no arguments: otherwise an expert would make some up."""
    schema = {"properties": {}} | json.loads(tool.parameters)
    close(schema)
    for part in parts_of(schema):
        if isinstance(pattern := part.get("pattern"), str) and _UNHELD.search(pattern):
            del part["pattern"]
    return _held(schema, lenient=True)


def _held(schema: dict[str, Any], *, lenient: bool = False) -> str:
    """`lenient`: ignore the parts of the schema that the grammar can't enforce."""
    return json.dumps(schema | {"x-guidance": WHITESPACE | {"lenient": lenient}})


def _parsed(json_schema: str) -> dict[str, Any]:
    try:
        schema = json.loads(json_schema)
    except (ValueError, RecursionError) as error:
        raise InvalidPrompt(f"json_schema is not valid JSON: {error}", param="json_schema") from error
    if not isinstance(schema, dict):
        raise InvalidPrompt("json_schema must be an object when there are tools", param="json_schema")
    close(schema)
    return schema
