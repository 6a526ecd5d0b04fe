"""Partial residency: the first layers of experts that left HBM stay there, in room that nothing else needs.

The next load copies only the rest over the link, while the first layers already run. Parts are read from DDR when the
link is idle, for the experts that are wanted soonest; they take free room only and are the first to leave.
"""

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple


class Absent(NamedTuple):
    """An expert that was in HBM and whose bytes are in DDR. `next_use`: absolute, inf when nothing waits for it."""

    expert: str
    nbytes: int
    next_use: float
    probability: float
    last_used: float


def part_name(expert: str) -> str:
    """Names of experts have no spaces."""
    return f"{expert} (first layers)"


def part_nbytes(nbytes: int, share: float, unit: int) -> int:
    """Whole units of at most `share` of the weights; 0: not worth it."""
    return int(nbytes * share) // unit * unit


def next_part(absent: Iterable[Absent], present: Container[str], room: Mapping[str, int]) -> Absent | None:
    """Whose first layers to read now. `present`: names in HBM; `room`: experts whose part fits, with its bytes."""
    wanted = [one for one in absent if one.expert in room and part_name(one.expert) not in present]
    return min(wanted, key=lambda one: (one.next_use, -one.probability, -one.last_used), default=None)
