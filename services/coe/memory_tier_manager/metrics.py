"""What the tier manager measures. Names follow ModelMesh where it has one, with the prefix `coe.`."""

from collections.abc import Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.tiers import Tier
from coe.platform.telemetry import names

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class TierMetrics:
    """Fed with every event and effect."""

    def __init__(self, tiers: Tiers) -> None:
        meter = metrics.get_meter("coe.memory_tier_manager")

        def seconds(name: str, description: str) -> metrics.Histogram:
            return meter.create_histogram(
                name, unit="s", description=description, explicit_bucket_boundaries_advisory=_SECONDS
            )

        self._load = seconds("coe.expert.load.duration", "Copying an expert into HBM")
        self._wait = seconds("coe.expert.load.queue.duration", "Waiting for room in HBM")
        self._age = seconds("coe.expert.age_at_eviction", "Since the last use of an expert that is evicted")
        self._evictions = meter.create_counter("coe.expert.eviction.count", description="Experts that left HBM")
        self._tiers = tiers
        for name, what in (("used", "Bytes in use"), ("capacity", "Budget")):
            meter.create_observable_gauge(f"coe.tier.{name}", [self._gauge(name)], unit="By", description=what)

    def observe(self, item: ev.Event | fx.Effect, now: float) -> None:
        match item:
            case fx.Grant() if item.found_in is not Tier.HBM:
                self._wait.record(item.waited_s)
            case fx.Evicted():
                self._evictions.add(1, {"reason": item.reason})
                self._age.record(item.age_s)
            case ev.CopyEnded() if item.error is None:
                self._load.record(now - self._tiers.hbm.entries[item.expert].since)
            case _:
                pass

    def _gauge(self, name: str) -> "metrics.CallbackT":
        def read(_: CallbackOptions) -> Iterable[Observation]:
            for tier, store in (("hbm", self._tiers.hbm), ("ddr", self._tiers.ddr)):
                yield Observation(getattr(store.budget, name), {names.COE_TIER: tier})

        return read
