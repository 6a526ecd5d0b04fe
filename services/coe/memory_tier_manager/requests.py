"""What is asked of the tiers, and how much may be asked."""

from dataclasses import dataclass

from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.extents import ALIGNMENT
from coe.memory_tier_manager.tiers import Tier


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds. `idle_ttl_s`: an unused expert leaves HBM after it. `retry_s`: pause after a failed load.

    `recall_s`: who waits so long for room gets it before new leases on what is in its place.

    `claim_s`: how long what a dead manager left in HBM is kept for workers that may hold leases on it.
    `part_share`: of an expert's weights that may stay in free room of HBM when it leaves; 0: none. `part_unit`: parts
    are multiples of it (chunks of a weights file).
    `max_aside`: copies that may wait for their disks at a time, each with threads of its own; twice as many when they
    wait for weights that were in DDR.
    """

    hbm_bytes: int
    ddr_bytes: int
    slots: int = 1024
    alignment: int = ALIGNMENT
    max_waiting: int = 1024
    load_timeout_s: float = 60.0
    idle_ttl_s: float = float("inf")
    retry_s: float = 5.0
    claim_s: float = 5.0
    recall_s: float = 5.0
    part_share: float = 0.0
    part_unit: int = 4 * 1024 * 1024
    max_aside: int = 4


@dataclass(slots=True)
class Pending:
    """An acquire that has no answer yet. `lease` 0: it still stands in the line for room."""

    asked: ev.Acquire
    arrived: float
    found_in: Tier
    lease: int = 0
    copied: int = 0
    served: float = 0.0
