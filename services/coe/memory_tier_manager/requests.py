"""The tiers' limits, and the state of a pending acquire."""

from dataclasses import dataclass

from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.extents import ALIGNMENT
from coe.memory_tier_manager.tiers import Tier


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes and seconds.

    `idle_ttl_s`: an expert unused for this long leaves HBM. `retry_s`: the pause after a failed load.
    `recall_s`: once a request has waited this long for room, the experts in its place are recalled.
    `claim_s`: how long experts left in HBM by a dead manager are kept for workers that may hold leases on them.
    `part_share`: the share of an expert's weights that may stay in free room of HBM when it leaves; 0: none.
    `part_unit`: part sizes are multiples of this (chunks of a weights file).
    `max_aside`: how many copies, each with threads of its own, may wait for their disks at a time; twice as many for
    weights that are in DDR.
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
    """An acquire not answered yet. `lease` 0: it is still in the line."""

    asked: ev.Acquire
    arrived: float
    found_in: Tier
    lease: int = 0
    copied: int = 0
    served: float = 0.0
