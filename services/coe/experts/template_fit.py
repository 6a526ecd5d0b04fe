"""Conversations as a chat template takes them. Which expert answers is not the caller's choice, so none may refuse what
others take: what its template does not know is said in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from coe.experts.chat_template import render
from coe.experts.conversation import Turn
from coe.platform.errors import InvalidPrompt


@dataclass(frozen=True)
class Known:
    """What a template shows of a conversation. `runs`: turns of one role, one behind the other."""

    system: bool
    later_system: bool
    runs: bool


@lru_cache(maxsize=64)
def known(template: str) -> Known:
    """Found by trying: templates refuse what they don't know, or leave it out."""
    system, user, assistant = ({"role": role, "content": f"{role}'s"} for role in ("system", "user", "assistant"))
    return Known(
        system=_shows(template, [system, user]),
        later_system=_shows(template, [user, assistant, system, user]),
        runs=_shows(template, [user, {"role": "user", "content": "further"}]),
    )


def _shows(template: str, turns: Sequence[Turn]) -> bool:
    try:
        text = render(template, turns, "", "")
    except InvalidPrompt:
        return False
    return all(turn["content"] in text for turn in turns)


def fitted(turns: Sequence[Turn], known: Known) -> list[Turn]:
    """The same conversation: what a system turn says, the user says where there is none; runs become one turn."""
    said: list[Turn] = []
    for index, turn in enumerate(turns):
        folded = turn["role"] == "system" and not (known.later_system if index else known.system)
        role = "user" if folded else turn["role"]
        if said and said[-1]["role"] == role and not known.runs:
            said[-1] = {**said[-1], "content": f"{said[-1]['content']}\n\n{turn['content']}"}
        else:
            said.append({**turn, "role": role})
    return said
