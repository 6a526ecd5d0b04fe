"""What the tiers of a node hold and who uses it. The parts of the core share it; only the run loop touches it."""

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
    """`out` collects the effects of the event that is being handled."""

    def __init__(
        self, limits: Limits, policy: EvictionPolicy, defaults: Mapping[str, int] | None, first_lease: int
    ) -> None:
        self.limits = limits
        # Experts to hold in HBM whenever there is room, with their bytes.
        self.defaults = dict(defaults or {})
        self.hbm = Hbm(limits.hbm_bytes, limits.slots, limits.alignment)
        self.ddr = DdrTier(limits.ddr_bytes)
        self.weights = Weights(self.hbm, self.ddr, policy, limits.max_aside)
        self.leases = LeaseTable(first_lease)
        self.pins: dict[str, int] = {}
        # Pins that don't fit beside those any more: their experts became bigger. They wait for room.
        self.unmet: dict[str, int] = {}
        self.forecasts = Forecasts()
        # Experts found in the arena of a manager that died: their lessees may still come and say so, until then.
        self.unclaimed: set[str] = set()
        self.claims_end = 0.0
        # When experts whose load failed are tried again.
        self.retry_at: dict[str, float] = {}
        # Bytes that no expert has any more: nobody gets a lease on them, and they leave when their leases have ended.
        self.former: set[str] = set()
        # Leases on what was in HBM when it was asked for, and on what was not.
        self.hits = 0
        self.misses = 0
        # Experts whose leases changed in number since somebody looked.
        self.used: set[str] = set()
        self.out = self.weights.out

    def candidates(self, wanted: Container[str], *, pinned: bool = False, leased: bool = False) -> list[Candidate]:
        """Who may leave HBM; `pinned`: or move in it; `leased`: or leave once its leases have ended.

        `wanted`: experts that somebody waits for.
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
        """Experts that are to be in HBM though nobody asks."""
        return [*self.pins, *self.unmet, *self.defaults]

    def is_read(self, expert: str) -> bool:
        """Its first layers are on their way from the part to the whole."""
        whole = self.hbm.entries.get(expert)
        return whole is not None and whole.copying

    def absent(self) -> list[Absent]:
        """Experts that left HBM and are in DDR."""
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
