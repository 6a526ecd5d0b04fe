"""Eviction policies: which idle expert leaves HBM first. A policy only orders; the core decides what may leave."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from coe.memory_tier_manager.extents import Extents


class Candidate(NamedTuple):
    """An expert in HBM that may be evicted (`TierState.candidates`). `next_use`: absolute time; inf: not needed.

    `part`: only the first layers are there; they leave before any complete expert does.
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
        """The candidate with the smallest key leaves first."""
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
    """CoServe's second stage: lowest probability of use first; among equals, the largest first."""

    name = "probability"

    def key(self, candidate: Candidate) -> tuple[float, ...]:
        return (candidate.probability, -candidate.nbytes, candidate.last_used)


class FarthestNextUse:
    """Belady's rule, as far ahead as the queues show; then lowest probability, then least recently used."""

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
    """The candidates to drop so that `need` contiguous bytes fit; None if dropping all of them is not enough.

    Adds candidates in the policy's order until they suffice, then spares, last first, those not needed after all: with
    experts of different sizes, the first ones may lie where freeing them does not help.
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
