"""What is measured and when: each load, failure and eviction once, by source or reason."""

import pytest

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import metrics
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.metrics import TierMetrics
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.tiers import Tier
from coe.platform.errors import TierLoadError

Seen = list[tuple[str, float, dict[str, str]]]


class Instrument:
    def __init__(self, name: str, seen: Seen) -> None:
        self._name, self._seen = name, seen

    def record(self, value: float, attributes: dict[str, str] | None = None) -> None:
        self._seen.append((self._name, value, attributes or {}))

    add = set = record


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen: Seen = []
    for kind in ("counter", "gauge", "histogram"):
        monkeypatch.setattr(metrics, kind, lambda name: Instrument(name, seen))
    return seen


@pytest.fixture
def tiers() -> Tiers:
    tiers = Tiers(Limits(hbm_bytes=8, ddr_bytes=8, slots=4, alignment=1), EVICTION["lru"])
    tiers.handle(ev.Attach("w", 1), 0.0)
    tiers.handle(ev.Acquire(1, "w", "a", 4), 1.0)
    return tiers


def test_a_load_is_measured_by_where_it_came_from(tiers: Tiers, seen: Seen) -> None:
    TierMetrics(tiers).observe(ev.CopyEnded("a", 1), 3.5)
    assert seen == [("coe.expert.load.duration", 2.5, {"coe.tier.name": "disk"})]


def test_a_failure_is_counted_by_its_reason(tiers: Tiers, seen: Seen) -> None:
    TierMetrics(tiers).observe(ev.CopyEnded("a", 1, TierLoadError("the disk is on fire")), 3.5)
    assert seen == [("coe.expert.load.failures", 1, {"error.type": "tier_load"})]


def test_a_timed_out_load_is_counted_when_it_times_out(tiers: Tiers, seen: Seen) -> None:
    """Its copy may never end."""
    tiers.handle(ev.CopyStarted("a", 1), 1.0)
    observed = TierMetrics(tiers)
    for item in tiers.handle(ev.Tick(), 62.0):
        if type(item) in metrics.MEASURED:
            observed.observe(item, 62.0)
    assert seen == [("coe.expert.load.failures", 1, {"error.type": "tier_load"})]
    observed.observe(ev.CopyEnded("a", 1), 100.0)
    assert len(seen) == 1


def test_evictions_misses_and_their_waits(tiers: Tiers, seen: Seen) -> None:
    observed = TierMetrics(tiers)
    observed.observe(fx.Evicted("a", 4, 12.0, "room"), 9.0)
    observed.observe(fx.Grant(1, "w", 1, "a", 0, 1, Tier.DDR, 4, 0.5), 9.0)
    observed.observe(fx.Grant(2, "w", 2, "a", 0, 1, Tier.HBM, 0, 0.5), 9.0)
    assert seen == [
        ("coe.expert.eviction.count", 1, {"reason": "room"}),
        ("coe.expert.age_at_eviction", 12.0, {}),
        ("coe.expert.load.queue.duration", 0.5, {}),
    ]


def test_what_is_sampled(tiers: Tiers, seen: Seen) -> None:
    def sampled(now: float, disk_waits: int = 0) -> dict[str, float]:
        seen.clear()
        TierMetrics(tiers).sample(now, disk_waits)
        return {name: value for name, value, _ in seen}

    first = {"coe.tier.lru_age": 0.0, "coe.lease.active": 1, "coe.lease.waiting": 1, "coe.tier.disk_waits": 2}
    assert sampled(2.0, 2) == first
    tiers.handle(ev.CopyStarted("a", 1), 2.0)
    tiers.handle(ev.CopyEnded("a", 1), 2.0)
    assert sampled(6.0) == {**first, "coe.tier.lru_age": 5.0, "coe.lease.waiting": 0, "coe.tier.disk_waits": 0}
