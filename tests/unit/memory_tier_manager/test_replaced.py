"""The core when an expert's bytes are replaced while they are read, loaded or waited for."""

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import views
from coe.memory_tier_manager.tiers import State
from coe.platform.errors import ExpertNotFound, TierLoadError
from support.tiers_world import World


def refused(world: World, request: int) -> type[Exception]:
    answer = world.answers[request]
    assert isinstance(answer, fx.Reject)
    return type(answer.error)


def test_requests_waiting_for_replaced_bytes_are_asked_to_retry(world: World) -> None:
    loading, lined_up = world.acquire("w1", "a", resident=True), world.acquire("w1", "big")
    world.import_anew("a", 4)
    assert refused(world, loading) is TierLoadError
    assert "a" in world.cancelled
    world.import_anew("big", 8)
    assert refused(world, lined_up) is TierLoadError
    world.settle()
    assert not world.tiers.hbm.entries


def test_a_replaced_load_with_leases_completes(world: World) -> None:
    reading = world.acquire("w1", "a")
    grant = world.grant(reading)
    key = world.import_anew("a", 4)
    new = world.acquire("w2", key)
    world.settle()
    assert world.tiers.hbm.entries["a"].state is State.RESIDENT
    assert world.grant(new).slot != grant.slot
    world.release(reading)
    world.settle()
    assert world.resident() == {key}
    assert world.in_ddr == {key}


def test_replaced_bytes_are_evicted_before_others(world: World) -> None:
    world.release(world.acquire("w1", "a"))
    world.settle()
    world.release(world.acquire("w1", "b"))
    world.settle()
    key = world.import_anew("a", 4)
    request = world.acquire("w1", key)
    world.settle()
    assert world.grant(request)
    assert world.evicted == ["a"]


def test_a_removed_expert_is_neither_leased_nor_loaded_again(world: World) -> None:
    world.requests += 1
    world.send(ev.Pin(world.requests, "a", 4, pinned=True))
    waiting = world.acquire("w1", "a", resident=True)
    world.send(ev.Replaced("a", "", 0))
    assert refused(world, waiting) is ExpertNotFound
    world.settle()
    world.now += 60
    world.send(ev.Tick())
    world.settle()
    assert not world.tiers.hbm.entries
    world.send(ev.Replaced("a", "a", 4))
    world.settle()
    assert world.resident() == {"a"}, "its pin was not forgotten"


def test_a_pin_that_no_longer_fits_is_reported_and_waits_for_room(world: World) -> None:
    for request, expert in ((90, "a"), (91, "b")):
        world.send(ev.Pin(request, expert, 4, pinned=True))
    world.settle()
    bigger = fx.PinHeld("a#1", 8, held=False)
    world.requests = 0
    world.sizes["a#1"] = 8
    assert bigger in world.send(ev.Replaced("a", "a#1", 8))
    assert views.residency(world.tiers, "a#1", 8).pinned
    world.settle()
    assert world.resident() == {"b"}
    assert fx.PinHeld("a#1", 8, held=True) in world.send(ev.Pin(92, "b", 4, pinned=False))
    world.settle()
    assert world.resident() == {"a#1"}


def test_a_pin_that_waits_for_room_can_be_removed(world: World) -> None:
    for request, expert in ((90, "a"), (91, "b")):
        world.send(ev.Pin(request, expert, 4, pinned=True))
    world.sizes["a#1"] = 8
    world.send(ev.Replaced("a", "a#1", 8))
    world.send(ev.Pin(92, "a#1", 8, pinned=False))
    world.send(ev.Pin(93, "b", 4, pinned=False))
    assert not world.tiers.pins
    assert not views.residency(world.tiers, "a#1", 8).pinned


def test_a_pin_that_waits_for_room_is_held_when_its_expert_gets_smaller(world: World) -> None:
    for request, expert in ((90, "a"), (91, "b")):
        world.send(ev.Pin(request, expert, 4, pinned=True))
    world.sizes |= {"a#1": 8, "a#2": 3}
    world.send(ev.Replaced("a", "a#1", 8))
    assert fx.PinHeld("a#2", 3, held=True) in world.send(ev.Replaced("a#1", "a#2", 3))
    assert world.tiers.pins == {"b": 4, "a#2": 3}
