"""The port between a worker's run loop (or the simulator's) and the policy that orders its queues.

The loop asks `decide` whenever something changed: a prompt arrived, a step ended, a load ended, a batch ended. The
policy reads the view and answers; it does no I/O and reads no clock. Named tuples, because millions of
them are made when a trace is simulated.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from coe.scheduling.queues import ExpertQueues


class Costs(Protocol):
    """What things are expected to take, in seconds. `version` is another one whenever it expects something else."""

    @property
    def version(self) -> int: ...

    def load_s(self, expert: str) -> float:
        """Bringing the expert into HBM when it is not there."""
        ...

    def run_s(self, expert: str, prompts: int) -> float:
        """Answering that many prompts with the expert resident, in batches of at most the worker's size."""
        ...


class Popularity(Protocol):
    def probability(self, expert: str) -> float:
        """Share of coming prompts that are expected to want the expert."""
        ...


class Running(NamedTuple):
    """The expert that executes now. `remaining_s`: until its live prompts have ended, as far as can be told."""

    expert: str
    live: int
    remaining_s: float


class QueueView(NamedTuple):
    """What a policy may know. `resident`: experts in HBM, or on the way there. `last`: the expert that ran last."""

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
    """When an expert will be wanted next: `in_s` seconds from now (inf: no prompt waits for it)."""

    expert: str
    in_s: float
    probability: float


class Decision(NamedTuple):
    """What to do now.

    * `run`: start this batch (only when nothing runs).
    * `join`: add this batch to the running one, at the next step (only while something runs).
    * `prefetch`: experts to bring into HBM meanwhile, the soonest needed first.
    * `forecast`: goes to the tier manager with the next acquire or prefetch, so that it evicts the right expert;
      empty when there is nothing new to say, or the policy's eviction does not look ahead.
    """

    run: Batch | None = None
    join: Batch | None = None
    prefetch: tuple[str, ...] = ()
    forecast: tuple[NextUse, ...] = ()


IDLE = Decision()


class QueuePolicy(Protocol):
    """`eviction` names the policy that the tier manager should evict by (coe.memory_tier_manager.eviction).

    `copy_first`: a batch begins when its expert is in HBM, whole; else it runs behind the copy.
    """

    name: str
    eviction: str
    copy_first: bool

    def decide(self, view: QueueView, now: float) -> Decision: ...
