"""A new manager takes over the arena of one that died."""

import pytest

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.extents import Extents
from coe.memory_tier_manager.tiers import Tier
from support.tiers_world import World

SIZES = {"a": 4, "b": 4, "c": 4}


@pytest.fixture
def world() -> World:
    """w1 holds a, nobody holds b; HBM is full. Then the manager dies."""
    world = World.of(SIZES, hbm=8, claim_s=5.0)
    world.attach("w1", "w2")
    world.acquire("w1", "a")
    world.settle()
    world.release(world.acquire("w1", "b"))
    world.settle()
    return world


def test_what_is_resident_is_not_loaded_again(world: World) -> None:
    held = world.crash()
    assert world.resident() == {"a", "b"}
    world.send(ev.Attach("w1", 1, held["w1"]))
    grant = world.grant(world.acquire("w1", "b"))
    assert (grant.found_in, grant.copied) == (Tier.HBM, 0)
    assert not world.copying


def test_leases_presented_again_stay_valid(world: World) -> None:
    held = world.crash()
    assert not world.tiers.leases.count("a")
    world.send(ev.Attach("w1", 1, held["w1"]))
    assert [lease.lease for lease in world.tiers.leases.of_worker("w1")] == [held["w1"][0].lease]
    world.send(ev.Release("w1", held["w1"][0].lease))
    assert not world.tiers.leases.count("a")


def test_nothing_is_evicted_before_its_lessee_could_reattach(world: World) -> None:
    held = world.crash()
    world.send(ev.Attach("w2", 1))
    waiting = world.acquire("w2", "c")
    world.send(ev.Tick())
    assert not world.freeing
    world.send(ev.Attach("w1", 1, held["w1"]))
    world.now += 5.0
    world.send(ev.Tick())
    assert world.freeing.keys() == {"b"}, "a is claimed"
    world.settle()
    world.grant(waiting)


def test_reimported_weights_stay_until_their_lessee_could_reattach(world: World) -> None:
    world.crash()
    world.import_anew("a", 4)
    assert world.resident() == {"a", "b"}
    world.now += 5.0
    world.send(ev.Tick())
    world.settle()
    assert "a" not in world.resident()


def test_a_lease_presented_too_late_is_refused(world: World) -> None:
    held = world.crash()
    world.now += 5.0
    world.send(ev.Tick())
    world.send(ev.Attach("w2", 1))
    for expert in ("c", "b"):
        world.acquire("w2", expert)
        world.settle()
    world.send(ev.Attach("w1", 1, held["w1"]))
    assert not world.tiers.leases.of_worker("w1")


def test_a_load_in_progress_is_void_and_restarts() -> None:
    world = World.of(SIZES, hbm=8)
    world.attach("w1")
    world.acquire("w1", "a")
    held = world.crash()
    assert not world.tiers.hbm.entries
    world.send(ev.Attach("w1", 1, held["w1"]))
    assert not world.tiers.leases.of_worker("w1")
    assert world.grant(world.acquire("w1", "a")).generation == 2


def test_leases_survive_a_broken_stream(world: World) -> None:
    """The manager took the leases back; the worker, which lives, has them again as long as the bytes are there."""
    held = ev.Held(1, "a", 0, 1)
    world.send(ev.Detach("w1", 1))
    assert not world.tiers.leases.count("a")
    world.send(ev.Attach("w1", 9, (held, ev.Held(2, "a", 0, 7), ev.Held(3, "c", 0, 1))))
    assert [lease.lease for lease in world.tiers.leases.of_worker("w1")] == [1]


def test_new_leases_have_new_ids(world: World) -> None:
    held = world.crash()
    world.send(ev.Attach("w2", 1))
    newer = world.grant(world.acquire("w2", "a")).lease
    world.send(ev.Attach("w1", 1, held["w1"]))
    assert {lease.lease for lease in world.tiers.leases.of_expert("a")} == {newer, held["w1"][0].lease}


def test_a_request_pending_when_the_manager_died_is_rejected(world: World) -> None:
    world.send(ev.Detach("w2", 2))
    waiting = world.acquire("w1", "c")
    world.crash()
    assert isinstance(world.answers[waiting], fx.Reject)


def test_extents_are_taken_where_they_were() -> None:
    extents = Extents(12, alignment=2)
    extents.take(4, 3)
    extents.check_integrity()
    with pytest.raises(ValueError, match="not free"):
        extents.take(6, 2)
    with pytest.raises(ValueError, match="not free"):
        extents.take(9, 2)
    extents.take(0, 4)
    extents.take(8, 4)
    extents.check_integrity()
    assert not extents.largest
