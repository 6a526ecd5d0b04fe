"""What the tier manager measures. Bytes and capacities are measured where they are published."""

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.tiers import Tier
from coe.platform.telemetry.registry import counter, histogram


class TierMetrics:
    """Fed with every event and effect."""

    def __init__(self, tiers: Tiers) -> None:
        self._load = histogram("coe.expert.load.duration")
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
            case ev.CopyEnded() if item.error is None and not self._tiers.hbm.entries[item.expert].part_of:
                self._load.record(now - self._tiers.hbm.entries[item.expert].since)
            case _:
                pass
