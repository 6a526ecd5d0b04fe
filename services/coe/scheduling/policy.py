"""The interface between a run loop (the worker's or the simulator's) and the policy that orders its queues.

The loop calls `decide` whenever something has changed: a prompt arrived, or a step, a load or a batch ended. The policy
reads the view and returns a decision; it does no I/O and reads no clock. Views and decisions are named tuples because
simulating a trace creates millions of them.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from coe.scheduling.queues import ExpertQueues


class Costs(Protocol):
    """Expected durations in seconds. `version` changes whenever an estimate does."""

    @property
    def version(self) -> int: ...

    def load_s(self, expert: str) -> float:
        """Loading the expert into HBM."""
        ...

    def run_s(self, expert: str, prompts: int) -> float:
        """Answering that many prompts with the expert resident, in batches of at most the worker's size."""
        ...


class Popularity(Protocol):
    def probability(self, expert: str) -> float:
        """The expected share of future prompts that will want the expert."""
        ...


class Running(NamedTuple):
    """The expert that is generating. `remaining_s`: estimated seconds until its `live` sequences have ended."""

    expert: str
    live: int
    remaining_s: float


class QueueView(NamedTuple):
    """All a policy gets to see. `resident`: experts in HBM or loading into it. `last`: the expert that ran last."""

    queues: ExpertQueues
    costs: Costs
    popularity: Popularity
    resident: AbstractSet[str]
    max_batch: int
    running: Running | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Take up to `count` prompts of the expert, oldest first, none that arrived after `arrived_by`."""

    expert: str
    count: int
    arrived_by: float = float("inf")


class NextUse(NamedTuple):
    """When an expert will be needed next: `in_s` seconds from now (inf: no prompt is waiting for it)."""

    expert: str
    in_s: float
    probability: float


class Decision(NamedTuple):
    """What to do now.

    * `run`: start this batch (only when nothing is running).
    * `join`: add this batch to the running one at the next step (only while something is running).
    * `prefetch`: experts to load into HBM meanwhile, the one needed soonest first.
    * `forecast`: sent to the tier manager with the next acquire or prefetch, so that it evicts the right expert; empty
      when there is nothing new to report, or when the policy's eviction does not look ahead.
    """

    run: Batch | None = None
    join: Batch | None = None
    prefetch: tuple[str, ...] = ()
    forecast: tuple[NextUse, ...] = ()


IDLE = Decision()


class QueuePolicy(Protocol):
    """`eviction`: the eviction policy that the tier manager should use (coe.memory_tier_manager.eviction).

    `copy_first`: a batch begins only once its expert is completely in HBM; otherwise it overlaps with the copy.
    """

    name: str
    eviction: str
    copy_first: bool

    def decide(self, view: QueueView, now: float) -> Decision: ...
