"""The tier manager's metrics, except bytes and capacities, which are measured where they are published.

The names are this project's; the selection follows ModelMesh: cache misses, load time, the wait before a load,
evictions, the age at eviction, and the age of the least recently used expert, which its operators use to size memory.
"""

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.tiers import State, Tier
from coe.platform.telemetry import names
from coe.platform.telemetry.registry import counter, gauge, histogram

# The types that `observe` must be called with.
MEASURED = frozenset((fx.Grant, fx.Evicted, fx.TimedOut, ev.CopyEnded))


class TierMetrics:
    """Fed with events and effects; call `sample` periodically."""

    def __init__(self, tiers: Tiers) -> None:
        self._load = histogram("coe.expert.load.duration")
        self._failures = counter("coe.expert.load.failures")
        self._wait = histogram("coe.expert.load.queue.duration")
        self._age = histogram("coe.expert.age_at_eviction")
        self._evictions = counter("coe.expert.eviction.count")
        self._tiers = tiers

    def observe(self, item: ev.Event | fx.Effect, now: float) -> None:
        match item:
            case fx.Grant() if item.found_in is not Tier.HBM:
                self._wait.record(item.waited_s)
            case fx.Evicted():
                self._evictions.add(1, {"reason": item.reason})
                self._age.record(item.age_s)
            case fx.TimedOut():
                self._failures.add(1, {names.ERROR_TYPE: item.error.code})
            case ev.CopyEnded():
                self._copied(item, now)
            case _:
                pass

    def sample(self, now: float, disk_waits: int = 0) -> None:
        tiers = self._tiers
        used = [e.last_used for e in tiers.hbm.entries.values() if e.state is State.RESIDENT and not e.part_of]
        gauge("coe.tier.lru_age").set(now - min(used, default=now))
        gauge("coe.lease.active").set(len(tiers.leases))
        gauge("coe.tier.disk_waits").set(disk_waits)
        gauge("coe.lease.waiting").set(len(tiers.pending))

    def _copied(self, item: ev.CopyEnded, now: float) -> None:
        """Called before the core handles the event."""
        entry = self._tiers.hbm.entries[item.expert]
        if entry.part_of:
            return
        if item.error is not None:
            self._failures.add(1, {names.ERROR_TYPE: item.error.code})
        elif entry.state is State.LOADING:
            self._load.record(now - entry.since, {names.COE_TIER: "ddr" if entry.was_in_ddr else "disk"})
