"""Which idle expert leaves HBM first. Policies only order; what may leave at all is the core's rule."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from coe.memory_tier_manager.extents import Extents


class Candidate(NamedTuple):
    """An expert in HBM that may leave (state.py says which). `next_use`: absolute, inf when nothing waits for it.

    `part`: only its first layers, which leave before anything whole does.
    """

    expert: str
    offset: int
    nbytes: int
    loaded_at: float
    last_used: float
    next_use: float
    probability: float
    part: bool = False


class EvictionPolicy(Protocol):
    name: str

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        """The smallest key leaves first."""
        ...


class LeastRecentlyUsed:
    name = "lru"

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        return (candidate.last_used,)


class FirstIn:
    name = "fifo"

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        return (candidate.loaded_at,)


class LeastProbable:
    """CoServe's second stage: lowest expected use, the largest first among equals."""

    name = "probability"

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        return (candidate.probability, -candidate.nbytes, candidate.last_used)


class FarthestNextUse:
    """Belady's rule as far as the queue tells, then lowest probability, then least recently used."""

    name = "next-use"

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        return (-candidate.next_use, candidate.probability, candidate.last_used)


EVICTION: dict[str, EvictionPolicy] = {
    policy.name: policy for policy in (LeastRecentlyUsed(), FirstIn(), LeastProbable(), FarthestNextUse())
}


def leaving_order(candidates: Sequence[Candidate], policy: EvictionPolicy) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (not candidate.part, policy.key(candidate)))


def victims(
    need: int, candidates: Sequence[Candidate], extents: Extents, policy: EvictionPolicy
) -> list[Candidate] | None:
    """The candidates to drop so that `need` bytes fit in one piece; None when even all of them are not enough.

    Takes them in the policy's order until they suffice, then spares, last first, those that were not needed: with
    experts of different sizes the first ones may lie where they help nothing.
    """
    trial = extents.copy()
    chosen: list[Candidate] = []
    for candidate in leaving_order(candidates, policy):
        if trial.can_allocate(need):
            break
        trial.free(candidate.offset)
        chosen.append(candidate)
    if not trial.can_allocate(need):
        return None
    for candidate in list(reversed(chosen)):
        fewer = [other for other in chosen if other is not candidate]
        trial = extents.copy()
        for other in fewer:
            trial.free(other.offset)
        if trial.can_allocate(need):
            chosen = fewer
    return chosen
