"""Measures how many statements a question chains together: a difficulty feature. Pure.

"Ann is Bob's parent. Bob is Cid's parent. What is Cid to Ann?": each statement that names two things links them, and
the two in the question are two links apart, both against the order of mention. How many links must be joined, and
whether they change direction, shows how hard such a question is. Its words do not: they are the same in easy and hard
questions.
"""

import re
from collections import deque
from dataclasses import astuple, dataclass

NAME = re.compile(r"\b[A-ZÀ-Þ][^\W\d_A-ZÀ-Þ]+\b")
STATEMENT = re.compile(r"\n|(?<=[.;!?])\s")
# Limits on the links and questions considered; no real prompt has as many.
MAX_LINKS = 400
MAX_QUESTIONS = 50


@dataclass(frozen=True, slots=True)
class Chain:
    """Links on the shortest path, with and against the order of mention, and how often the direction changes.

    All are 0 (and false) when there is no path.
    """

    forwards: int = 0
    backwards: int = 0
    turns: int = 0
    only_forwards: bool = False
    only_backwards: bool = False

    def figures(self) -> list[float]:
        return [float(value) for value in astuple(self)]


def chain_of(text: str) -> Chain:
    """The chain of the last question that names exactly two things connected by earlier statements."""
    links: dict[str, list[tuple[str, str]]] = {}
    found = Chain()
    count = questions = 0
    for statement in STATEMENT.split(text):
        named = list(dict.fromkeys(NAME.findall(statement)))
        if statement.rstrip().endswith("?"):
            asked = [name for name in named if name in links]
            if len(asked) == 2 and questions < MAX_QUESTIONS:
                questions += 1
                found = _shortest(links, *asked) or found
        elif len(named) == 2 and count < MAX_LINKS:
            first, second = named
            links.setdefault(first, []).append((second, "f"))
            links.setdefault(second, []).append((first, "b"))
            count += 1
    return found


def _shortest(links: dict[str, list[tuple[str, str]]], start: str, end: str) -> Chain | None:
    way_to = {start: ""}
    queue = deque([start])
    while queue and end not in way_to:
        here = queue.popleft()
        for there, direction in links[here]:
            if there not in way_to:
                way_to[there] = way_to[here] + direction
                queue.append(there)
    way = way_to.get(end)
    if way is None:
        return None
    forwards, backwards = way.count("f"), way.count("b")
    turns = way.count("fb") + way.count("bf")
    return Chain(forwards, backwards, turns, not backwards, not forwards)
