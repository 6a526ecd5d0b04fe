"""First layers of evicted experts: they use room that nothing else needs, and hide part of the next load."""

import pytest

from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.parts import Absent, next_part, part_name, part_nbytes
from coe.platform.errors import TierLoadError
from support.tiers_world import World

SIZES = {"a": 8, "b": 8, "c": 8}


def filled(sizes: dict[str, int] = SIZES, *, until_part: bool = False, **limits: float) -> World:
    """Room for two experts and a half: a and b were used, then c came for a, of which a quarter is read then.

    `until_part`: that copy has begun but not ended.
    """
    world = World.of(sizes, hbm=20, part_share=0.25, part_unit=1, **limits)
    world.attach("w1")
    for expert in ("a", "b", "c"):
        request = world.acquire("w1", expert)
        while (world.copying or world.freeing or world.reading) and not (
            until_part and part_name("a") in world.copying
        ):
            if world.reading:
                world.end_read(next(iter(world.reading)))
            elif world.freeing:
                world.end_free(next(iter(world.freeing)))
            else:
                world.end_copy()
        world.release(request)
    return world


def test_the_part_of_an_evicted_expert_is_read_when_the_link_is_idle() -> None:
    full = filled()
    assert full.resident() == {"b", "c", part_name("a")}
    assert full.tiers.hbm.entries[part_name("a")].nbytes == 2
    assert full.evicted == ["a"]


def test_the_next_load_takes_its_first_bytes_from_the_part_which_is_then_evicted() -> None:
    full = filled()
    before = full.tiers.hbm.bytes_in
    part = full.tiers.hbm.entries[part_name("a")]
    request = full.acquire("w1", "a")
    while not full.copying:
        full.end_free(next(iter(full.freeing)))
    assert full.copying["a"].part_slot == part.slot
    full.settle()
    full.grant(request)
    assert part_name("a") not in full.tiers.hbm.entries
    assert full.tiers.hbm.bytes_in - before == 6 + 2, "the rest of a, and a part of who left for it"


def test_parts_are_evicted_before_complete_experts() -> None:
    world = filled({**SIZES, "small": 4})
    assert part_name("a") in world.resident()
    world.acquire("w1", "small")
    world.settle()
    assert world.resident() == {"b", "c", "small"}
    assert world.evicted == ["a"]


def test_an_urgent_load_takes_the_link_from_a_part() -> None:
    world = filled({**SIZES, "small": 2}, until_part=True)
    assert world.copying.keys() == {part_name("a")}
    waiting = world.acquire("w1", "small", resident=True)
    assert world.cancelled == {part_name("a")}
    world.settle()
    world.grant(waiting)


def test_a_part_that_failed_to_load_is_not_retried_immediately() -> None:
    world = filled(until_part=True, retry_s=5.0)
    world.end_copy(TierLoadError("the disk is on fire"))
    world.settle()
    assert part_name("a") not in world.tiers.hbm.entries
    world.send(ev.Tick())
    assert not world.copying
    world.now += 5.0
    world.send(ev.Tick())
    assert world.copying.keys() == {part_name("a")}


def test_whose_part_is_read_first() -> None:
    inf = float("inf")
    soon, likely, recent, old = (
        Absent("soon", 8, 3.0, 0.1, 1.0),
        Absent("likely", 8, inf, 0.5, 1.0),
        Absent("recent", 8, inf, 0.1, 9.0),
        Absent("old", 8, inf, 0.1, 2.0),
    )
    room = dict.fromkeys(("soon", "likely", "recent", "old"), 2)
    order = []
    present: set[str] = set()
    while (chosen := next_part([old, recent, likely, soon], present, room)) is not None:
        order.append(chosen.expert)
        present.add(part_name(chosen.expert))
    assert order == ["soon", "likely", "recent", "old"]
    assert next_part([soon], (), {}) is None


@pytest.mark.parametrize(("nbytes", "share", "unit", "part"), [(100, 0.25, 10, 20), (100, 0.05, 10, 0), (8, 0.5, 1, 4)])
def test_parts_are_whole_units(nbytes: int, share: float, unit: int, part: int) -> None:
    assert part_nbytes(nbytes, share, unit) == part
