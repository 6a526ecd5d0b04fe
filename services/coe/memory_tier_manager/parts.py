"""Partial residency: keeps the first layers of evicted experts in HBM, in room that nothing else needs.

The next load of such an expert copies only the rest over the link, while the first layers already run. Parts are copied
from DDR while the link is idle, for the experts needed soonest. They use only free room and are evicted first.
"""

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple


class Absent(NamedTuple):
    """An expert that left HBM and is still in DDR. `next_use`: absolute time; inf: no prompt is waiting for it."""

    expert: str
    nbytes: int
    next_use: float
    probability: float
    last_used: float


def part_name(expert: str) -> str:
    """Can't clash with an expert: expert names contain no spaces."""
    return f"{expert} (first layers)"


def part_nbytes(nbytes: int, share: float, unit: int) -> int:
    """The largest multiple of `unit` within `share` of the weights; 0: keep no part."""
    return int(nbytes * share) // unit * unit


def next_part(absent: Iterable[Absent], present: Container[str], room: Mapping[str, int]) -> Absent | None:
    """The expert whose first layers to copy now. `present`: names in HBM. `room`: experts whose part fits, with its
    size."""
    wanted = [one for one in absent if one.expert in room and part_name(one.expert) not in present]
    return min(wanted, key=lambda one: (one.next_use, -one.probability, -one.last_used), default=None)
