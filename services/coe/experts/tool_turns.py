"""Expresses tools, calls and results as plain turns, for experts whose chat template does not support them."""

import json
from collections.abc import Iterable, Sequence

from coe.experts.conversation import Turn
from coe.experts.tool_calls import Tool, ToolCall

_SAMPLE = ToolCall("NAME", "{...}").spelled()
_HOW = f"""You may call functions. Each line describes one as JSON:
<tools>
%s
</tools>
To call one, write its name and its arguments as JSON, in this form:
{_SAMPLE}
Several calls stand one below the other, and nothing behind them. You will be given what they return, each within
<tool_response></tool_response>. When no function is needed, just answer."""


def plain(turns: Iterable[Turn], tools: Sequence[Tool]) -> list[Turn]:
    """The system turn describes the tools and the form of calls, assistant turns spell their calls, and user turns give
    the results."""
    said: list[Turn] = []
    results: list[str] = []
    for turn in turns:
        if turn["role"] == "tool":
            results.append(f"<tool_response>\n{turn['content']}\n</tool_response>")
            continue
        said += _told(results)
        said.append({"role": turn["role"], "content": _with_calls(turn)})
        results = []
    said += _told(results)
    return _offered(said, tools) if tools else said


def _told(results: Sequence[str]) -> list[Turn]:
    return [{"role": "user", "content": "\n".join(results)}] if results else []


def _with_calls(turn: Turn) -> str:
    functions = [call["function"] for call in turn.get("tool_calls", ())]
    calls = [ToolCall(one["name"], json.dumps(one["arguments"], ensure_ascii=False)).spelled() for one in functions]
    return "\n".join(part for part in (turn["content"], *calls) if part)


def _offered(turns: list[Turn], tools: Sequence[Tool]) -> list[Turn]:
    how = _HOW % "\n".join(json.dumps(tool.spec(), ensure_ascii=False) for tool in tools)
    if turns[0]["role"] == "system":
        return [{**turns[0], "content": f"{turns[0]['content']}\n\n{how}"}, *turns[1:]]
    return [{"role": "system", "content": how}, *turns]
