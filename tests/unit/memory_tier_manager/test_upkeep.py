"""Moves without a waiting request: prefetches, pins, default experts, and eviction by age."""

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.tiers import Tier
from support.tiers_world import SIZES, World


def test_prefetch_takes_free_room_and_only_idle_experts(world: World) -> None:
    first = world.acquire("w1", "a")
    assert world.prefetch("w1", "b", may_evict=False) == fx.Prefetched(2, started=True, found_in=Tier.DISK)
    world.settle()
    assert world.prefetch("w1", "c", may_evict=False) == fx.Prefetched(3, started=False, found_in=Tier.DISK)
    world.settle()
    assert "c" in world.in_ddr, "it comes nearer all the same"
    assert world.prefetch("w1", "c", may_evict=True) == fx.Prefetched(4, started=True, found_in=Tier.DDR)
    world.settle()
    assert world.resident() == {"a", "c"}
    world.release(first)


def test_prefetch_spares_experts_needed_sooner(world: World) -> None:
    for expert in ("a", "b"):
        world.release(world.acquire("w1", expert))
        world.settle()
    forecast = (ev.Use("a", 1.0, 0.1), ev.Use("c", 5.0, 0.1), ev.Use("b", 9.0, 0.1))
    world.prefetch("w1", "c", may_evict=True, forecast=forecast)
    world.settle()
    assert world.resident() == {"a", "c"}


def test_the_forecast_of_an_unattached_worker_is_ignored(world: World) -> None:
    world.prefetch("stranger", "c", may_evict=False, forecast=(ev.Use("a", 0.0, 1.0),))
    assert world.tiers.forecasts.next_use("a") == float("inf")


def test_an_acquire_makes_a_prefetch_urgent() -> None:
    world = World.of(SIZES, hbm=12)
    world.attach("w1")
    for expert in "abc":
        world.prefetch("w1", expert, may_evict=False)
    request = world.acquire("w1", "c", resident=True)
    world.end_copy()
    assert world.copying.keys() == {"c"}
    world.end_copy()
    world.grant(request)


def test_pins_load_and_stay(world: World) -> None:
    world.send(ev.Pin(90, "a", 4, pinned=True))
    world.settle()
    assert world.resident() == {"a"}
    for expert in ("b", "c"):
        request = world.acquire("w1", expert)
        world.settle()
        world.release(request)
    assert world.resident() == {"a", "c"}
    waiting = world.acquire("w1", "big")
    assert waiting not in world.answers
    world.send(ev.Pin(91, "a", 4, pinned=False))
    world.settle()
    world.grant(waiting)


def test_a_request_that_pins_leave_no_room_for_blocks_nobody(world: World) -> None:
    world.send(ev.Pin(90, "a", 4, pinned=True))
    world.settle()
    waiting = world.acquire("w1", "big")
    other = world.acquire("w2", "b")
    world.settle()
    world.grant(other)
    world.release(other)
    world.send(ev.Pin(91, "a", 4, pinned=False))
    world.settle()
    world.grant(waiting)


def test_a_pinned_expert_in_the_middle_makes_room_and_comes_back() -> None:
    """There are bytes enough beside it, but on both sides of it."""
    world = World.of(SIZES, hbm=12)
    world.attach("w1")
    held = [world.acquire("w1", expert) for expert in ("a", "b", "c")]
    world.settle()
    world.send(ev.Pin(90, "b", 4, pinned=True))
    for request in (held[0], held[2]):
        world.release(request)
    waiting = world.acquire("w1", "big")
    world.settle()
    assert waiting not in world.answers, "b is leased"
    world.release(held[1])
    world.settle()
    world.grant(waiting)
    assert world.resident() == {"b", "big"}


def test_experts_leased_on_both_sides_of_a_pinned_one_are_recalled() -> None:
    """Workers that keep it would keep who waits for ever."""
    world = World.of(SIZES, hbm=12)
    world.attach("w1", "w2", "w3")
    held = {expert: world.acquire("w1", expert) for expert in ("a", "b", "c")}
    world.settle()
    world.send(ev.Pin(90, "b", 4, pinned=True))
    world.release(held["b"])
    waiting = world.acquire("w3", "big", deadline=100.0)
    world.now = 5.0
    world.send(ev.Tick())
    behind = world.acquire("w2", "a")
    assert behind not in world.answers
    world.send(ev.CancelAcquire(behind))
    for expert in ("a", "c"):
        world.release(held[expert])
    world.settle()
    world.grant(waiting)
    assert world.resident() == {"b", "big"}


def test_a_pinned_expert_stays_if_there_is_no_room_alongside_it(world: World) -> None:
    world.send(ev.Pin(90, "a", 4, pinned=True))
    world.settle()
    world.acquire("w1", "big")
    world.settle()
    assert world.resident() == {"a"}
    assert world.evicted == []


def test_pinning_twice_is_harmless(world: World) -> None:
    for request in (90, 91):
        world.send(ev.Pin(request, "big", 8, pinned=True))
        assert world.answers[request] == fx.Done(request)


def test_pins_beyond_the_tier_are_refused(world: World) -> None:
    world.send(ev.Pin(90, "big", 8, pinned=True))
    world.send(ev.Pin(91, "a", 4, pinned=True))
    assert isinstance(world.answers[91], fx.Reject)


def test_idle_experts_are_evicted_after_their_time_to_live() -> None:
    world = World.of(SIZES, hbm=8, idle_ttl_s=10.0, defaults=("b",))
    world.attach("w1")
    held = world.acquire("w1", "a")
    world.settle()
    world.now = 3.0
    world.release(held)
    for world.now, resident in ((12.5, {"a", "b"}), (13.5, {"b"})):
        world.send(ev.Tick())
        world.settle()
        assert world.resident() == resident


def test_defaults_take_no_room_that_a_request_waits_for() -> None:
    world = World.of({"a": 4, "b": 4, "big": 8, "large": 8}, hbm=8, defaults=("a",))
    world.attach("w1", "w2", "w3")
    big = world.acquire("w1", "big")
    world.settle()
    small, large = world.acquire("w2", "b"), world.acquire("w3", "large")
    world.release(big)
    world.settle()
    assert world.resident() == {"b"}
    world.release(small)
    world.settle()
    world.grant(large)


def test_default_experts_return_once_there_is_room_again() -> None:
    world = World.of(SIZES, hbm=8, defaults=("a",))
    world.attach("w1")
    world.settle()
    assert world.resident() == {"a"}
    big = world.acquire("w1", "big")
    world.settle()
    assert world.resident() == {"big"}
    world.release(big)
    world.acquire("w1", "b")
    world.settle()
    assert world.resident() == {"a", "b"}
