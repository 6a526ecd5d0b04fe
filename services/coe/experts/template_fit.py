"""Adapts conversations to what a chat template supports. The caller does not choose which expert answers, so no expert
may reject what others accept: what its template does not support is expressed in another way.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from coe.experts.call_marks import BEGIN
from coe.experts.chat_template import render
from coe.experts.conversation import Conversation, Turn
from coe.experts.tool_calls import Tool
from coe.experts.tool_turns import plain
from coe.platform.errors import InvalidPrompt


@dataclass(frozen=True)
class Known:
    """What a template renders. `system`: a system turn at the start. `later_system`: system turns in any place, in
    order. `runs`: consecutive turns of one role, and any role first. `tools`: tools, their results, and calls in the
    form that answers must use."""

    system: bool
    later_system: bool
    runs: bool
    tools: bool


NOTHING = Known(system=False, later_system=False, runs=True, tools=False)


@lru_cache(maxsize=64)
def known(template: str) -> Known:
    """Found by rendering probes: templates reject what they don't support, or omit it."""
    system, user, assistant = ({"role": role, "content": f"{role}'s"} for role in ("system", "user", "assistant"))
    later = {"role": "system", "content": "later"}
    return Known(
        system=_shows(template, [system, user]),
        later_system=_shows(template, [user, assistant, system, user, assistant, later, user]),
        runs=_shows(template, [user, {"role": "user", "content": "further"}]),
        tools=_shows_tools(template, user),
    )


def _shows(template: str, turns: Sequence[Turn]) -> bool:
    """Whether the template renders the contents of all turns in order."""
    contents = ".*".join(turn["content"] for turn in turns)
    return re.search(contents, _tried(template, turns), re.DOTALL) is not None


def _shows_tools(template: str, user: Turn) -> bool:
    tool = Tool("sought", "what it does", '{"type": "object", "properties": {"named": {"type": "string"}}}')
    call = {"type": "function", "id": "000000000", "function": {"name": "sought", "arguments": {"named": "given"}}}
    calling = [user, {"role": "assistant", "content": "", "tool_calls": [call]}]
    result = {"role": "tool", "content": "found", "tool_call_id": "000000000"}
    offered, called = _tried(template, [user], [tool]), _tried(template, [*calling, result], [tool])
    return all(word in offered for word in (BEGIN, "sought", "what it does", "named")) and all(
        word in called for word in (f'{BEGIN}\n{{"name": "sought"', "given", "found")
    )


def _tried(template: str, turns: Sequence[Turn], tools: Sequence[Tool] = ()) -> str:
    try:
        return render(template, turns, "", "", [tool.spec() for tool in tools])
    except InvalidPrompt:
        return ""


def fitted(conversation: Conversation, known: Known) -> Conversation:
    """The conversation in a form that the template supports. An unsupported system turn becomes a user turn;
    unsupported runs are merged into one turn, and an assistant turn at the start gets an empty user turn before it;
    calls become plain text if the template has no form for them, or another one than answers must use.
    """
    turns = conversation.turns
    tools = conversation.tools
    if not known.tools:
        turns, tools = plain(turns, tools.tools if tools else ()), None
    said: list[Turn] = []
    for index, turn in enumerate(turns):
        folded = turn["role"] == "system" and not (known.later_system if index else known.system)
        role = "user" if folded else turn["role"]
        if not known.runs and said and _are_one(said[-1], {**turn, "role": role}):
            said[-1] = {**said[-1], "content": f"{said[-1]['content']}\n\n{turn['content']}"}
        else:
            if not known.runs and role == "assistant" and all(turn["role"] == "system" for turn in said):
                said.append({"role": "user", "content": ""})
            said.append({**turn, "role": role})
    return Conversation(said, tools)


def _are_one(turn: Turn, following: Turn) -> bool:
    calls = "tool_calls" in turn or "tool_calls" in following
    return turn["role"] == following["role"] != "tool" and not calls
