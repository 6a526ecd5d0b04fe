"""The state of a node's tiers: their contents, leases, pins and forecasts. Shared by the parts of the core; only the
run loop touches it."""

from collections.abc import Container, Mapping

from coe.memory_tier_manager.ddr import DdrTier
from coe.memory_tier_manager.eviction import Candidate, EvictionPolicy
from coe.memory_tier_manager.forecast import Forecasts
from coe.memory_tier_manager.hbm import Hbm
from coe.memory_tier_manager.leases import LeaseTable
from coe.memory_tier_manager.parts import Absent
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.tiers import State
from coe.memory_tier_manager.weights import Weights


class TierState:
    """`out` collects the effects of the event being handled."""

    def __init__(
        self, limits: Limits, policy: EvictionPolicy, defaults: Mapping[str, int] | None, first_lease: int
    ) -> None:
        self.limits = limits
        # Experts to keep in HBM whenever there is room, with their sizes.
        self.defaults = dict(defaults or {})
        self.hbm = Hbm(limits.hbm_bytes, limits.slots, limits.alignment)
        self.ddr = DdrTier(limits.ddr_bytes)
        self.weights = Weights(self.hbm, self.ddr, policy, limits.max_aside)
        self.leases = LeaseTable(first_lease)
        self.pins: dict[str, int] = {}
        # Pins that no longer fit alongside the others, because their experts became larger. They wait for room.
        self.unmet: dict[str, int] = {}
        self.forecasts = Forecasts()
        # Experts found in the arena of a manager that died. Until `claims_end`, workers may still claim leases on them.
        self.unclaimed: set[str] = set()
        self.claims_end = 0.0
        # When to retry experts whose load failed.
        self.retry_at: dict[str, float] = {}
        # Keys that no expert's name stands for any more. They get no new leases, and leave when theirs have ended.
        self.former: set[str] = set()
        # Leases whose expert was in HBM when requested, and leases whose expert was not.
        self.hits = 0
        self.misses = 0
        # Experts whose number of leases has changed since it was last published.
        self.used: set[str] = set()
        self.out = self.weights.out

    def candidates(self, wanted: Container[str], *, pinned: bool = False, leased: bool = False) -> list[Candidate]:
        """The experts that may leave HBM. `pinned`: also those that may only move within it. `leased`: also those that
        may leave once their leases have ended. `wanted`: experts that requests wait for, which must stay.
        """
        return [
            Candidate(
                entry.expert,
                entry.offset,
                entry.taken,
                entry.since,
                entry.last_used,
                self.forecasts.next_use(entry.expert),
                self.forecasts.probability(entry.expert),
                bool(entry.part_of),
            )
            for entry in self.hbm.entries.values()
            if entry.state is State.RESIDENT
            and (leased or not self.leases.count(entry.expert))
            and (pinned or entry.expert not in self.pins)
            and entry.expert not in self.unclaimed
            and entry.expert not in wanted
            and not self.is_read(entry.part_of)
        ]

    def wanted_always(self) -> list[str]:
        """Experts that should be in HBM even if nobody requests them."""
        return [*self.pins, *self.unmet, *self.defaults]

    def is_read(self, expert: str) -> bool:
        """Whether a copy of the whole expert is in progress, which may be reading the first layers from its part."""
        whole = self.hbm.entries.get(expert)
        return whole is not None and whole.copying

    def absent(self) -> list[Absent]:
        """Experts that left HBM and are still in DDR."""
        return [
            Absent(
                expert,
                nbytes,
                self.forecasts.next_use(expert),
                self.forecasts.probability(expert),
                self.ddr.entries[expert].last_used,
            )
            for expert, nbytes in self.weights.left.items()
            if self.ddr.has(expert) and expert not in self.hbm.entries
        ]
