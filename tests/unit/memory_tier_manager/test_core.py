"""The core's rules, one by one: leases, the line, and how loads end."""

import pytest

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.tiers import Tier
from coe.platform import errors
from support.tiers_world import SIZES, World


def test_a_grant_comes_once_the_copy_has_begun(world: World) -> None:
    request = world.acquire("w1", "a")
    grant = world.grant(request)
    assert (grant.found_in, grant.copied, grant.generation) == (Tier.DISK, 4, 1)
    assert world.copying


def test_until_resident_waits_for_the_last_byte(world: World) -> None:
    request = world.acquire("w1", "a", resident=True)
    assert request not in world.answers
    world.end_copy()
    assert world.grant(request).copied == 4


def test_second_acquire_joins_the_load(world: World) -> None:
    world.acquire("w1", "a")
    second = world.grant(world.acquire("w2", "a"))
    assert second.copied == 0
    assert len(world.copying) == 1


def test_resident_is_found_in_hbm_and_dropped_is_found_in_ddr(world: World) -> None:
    first = world.acquire("w1", "a")
    world.settle()
    assert world.grant(world.acquire("w2", "a")).found_in is Tier.HBM
    world.release(first)
    world.release(2)
    big = world.acquire("w1", "big")
    world.settle()
    world.release(big)
    again = world.acquire("w1", "a")
    world.settle()
    assert world.grant(again).found_in is Tier.DDR


def test_leased_experts_stay_and_the_acquire_waits(world: World) -> None:
    first, second = world.acquire("w1", "a"), world.acquire("w1", "b")
    world.settle()
    world.now = 1.0
    third = world.acquire("w2", "c")
    assert third not in world.answers
    world.now = 3.0
    world.release(second)
    assert world.freeing.keys() == {"b"}
    assert third not in world.answers, "bytes being freed are not promised"
    world.end_free("b")
    assert world.grant(third).waited_s == 2.0
    assert world.evicted == ["b"]
    assert world.tiers.hbm.evictions == 1
    world.release(first)


def test_room_is_given_in_order(world: World) -> None:
    first, second = world.acquire("w1", "a"), world.acquire("w1", "b")
    world.settle()
    waiting_big, waiting_small = world.acquire("w1", "big"), world.acquire("w2", "c")
    world.release(second)
    world.settle()
    assert waiting_small not in world.answers, "it would overtake the big one for ever"
    world.release(first)
    world.settle()
    world.release(waiting_big)
    world.settle()
    world.grant(waiting_small)


def test_residents_are_granted_past_the_line(world: World) -> None:
    world.acquire("w1", "a")
    world.acquire("w1", "b")
    world.settle()
    world.acquire("w1", "c")
    world.grant(world.acquire("w2", "a"))


def test_new_leases_do_not_overtake_a_request_that_has_waited_too_long(world: World) -> None:
    """Two workers that take turns on one expert would keep it, and the third's would never come."""
    world.send(ev.Attach("w3", 3))
    held = [world.acquire("w1", "a"), world.acquire("w2", "b")]
    world.settle()
    waiting = world.acquire("w3", "big", deadline=100.0)
    held.append(world.acquire("w2", "a"))
    world.grant(held[-1])
    world.now = 5.0
    effects = world.send(ev.Tick())
    assert {effect.expert for effect in effects if isinstance(effect, fx.Changed)} == {"a", "b"}
    behind = world.acquire("w1", "a")
    assert behind not in world.answers
    for request in held:
        world.release(request)
    world.settle()
    world.grant(waiting)
    assert behind not in world.answers
    world.release(waiting)
    world.settle()
    world.grant(behind)


def test_recall_serves_one_overdue_request_after_another(world: World) -> None:
    for turn in range(3):
        holding = world.acquire("w1", "a")
        world.settle()
        waiting = world.acquire("w2", "big")
        world.now += 5.0
        world.send(ev.Tick())
        behind = world.acquire("w1", "a")
        assert behind not in world.answers, turn
        world.release(holding)
        world.settle()
        world.release(waiting)
        world.settle()
        world.release(behind)


def test_pinned_experts_are_recalled_only_where_others_do_not_suffice() -> None:
    world = World.of(SIZES, hbm=8)
    world.attach("w1", "w2")
    world.send(ev.Pin(90, "a", 4, pinned=True))
    for expert in "ab":
        world.acquire("w1", expert)
        world.now += 1.0
    world.settle()
    world.acquire("w2", "c")
    world.now += 5.0
    world.send(ev.Tick())
    assert [entry.expert for entry in world.tiers.hbm.entries.values() if entry.recalled] == ["b"]


def test_a_withdrawn_request_recalls_nothing(world: World) -> None:
    world.acquire("w1", "a")
    world.settle()
    waiting = world.acquire("w2", "big")
    world.now = 5.0
    world.send(ev.Tick())
    behind = world.acquire("w2", "a")
    assert behind not in world.answers
    world.send(ev.CancelAcquire(waiting))
    world.grant(behind)
    assert not world.tiers.hbm.entries["a"].recalled


def test_cancelled_load_always_unloads(world: World) -> None:
    request = world.acquire("w1", "a", resident=True)
    world.send(ev.CancelAcquire(request))
    assert world.cancelled == {"a"}
    again = world.acquire("w1", "a")
    assert again not in world.answers, "never two copies of one expert"
    world.end_copy()
    assert world.freeing
    world.end_free("a")
    assert world.grant(again).generation == 2


def test_cancel_spares_a_load_others_wait_for(world: World) -> None:
    request = world.acquire("w1", "a", resident=True)
    other = world.acquire("w2", "a", resident=True)
    world.send(ev.CancelAcquire(request))
    world.end_copy()
    world.grant(other)


def test_a_load_whose_last_waiter_leaves_is_cancelled_whoever_began_it(world: World) -> None:
    first = world.acquire("w1", "a", resident=True)
    second = world.acquire("w2", "a", resident=True)
    world.send(ev.CancelAcquire(first))
    assert not world.cancelled
    world.send(ev.CancelAcquire(second))
    assert world.cancelled == {"a"}


def test_a_prefetch_continues_when_the_requests_that_joined_it_leave(world: World) -> None:
    world.prefetch("w1", "a", may_evict=False)
    world.send(ev.CancelAcquire(world.acquire("w1", "a", resident=True)))
    assert not world.cancelled


def test_failed_load_rejects_all_waiters_and_voids_leases(world: World) -> None:
    early, late = world.acquire("w1", "a"), world.acquire("w2", "a", resident=True)
    world.end_copy(errors.ChecksumMismatch("damaged"))
    answer = world.answers[late]
    assert isinstance(answer, fx.Reject)
    assert isinstance(answer.error, errors.ChecksumMismatch)
    assert not world.tiers.leases.of_worker("w1")
    world.release(early)
    world.settle()
    assert not world.tiers.hbm.entries


def test_load_timeout(world: World) -> None:
    request = world.acquire("w1", "a", resident=True)
    world.now = 61.0
    world.send(ev.Tick())
    answer = world.answers[request]
    assert isinstance(answer, fx.Reject)
    assert isinstance(answer.error, errors.TierLoadError)
    world.settle()
    assert not world.tiers.hbm.entries


def test_deadline_ends_the_wait_for_room(world: World) -> None:
    world.acquire("w1", "big")
    world.settle()
    request = world.acquire("w2", "a", deadline=5.0)
    world.now = 5.0
    world.send(ev.Tick())
    answer = world.answers[request]
    assert isinstance(answer, fx.Reject)
    assert isinstance(answer.error, errors.DeadlineExceeded)


def test_leases_of_a_dead_worker_end(world: World) -> None:
    world.acquire("w1", "big")
    world.settle()
    waiting = world.acquire("w2", "a")
    world.send(ev.Detach("w1", 1))
    world.settle()
    world.grant(waiting)


def test_a_new_process_of_the_same_name_takes_over(world: World) -> None:
    world.acquire("w1", "a")
    world.send(ev.Attach("w1", 7))
    assert not world.tiers.leases.of_worker("w1")
    world.acquire("w1", "a")
    world.send(ev.Detach("w1", 1))
    assert world.tiers.leases.of_worker("w1"), "the end of the old stream is not the new one's"


@pytest.mark.parametrize(
    ("worker", "expert", "error"),
    [("w1", "huge", errors.ExpertTooLarge), ("nobody", "a", errors.Unavailable)],
)
def test_refusals(world: World, worker: str, expert: str, error: type[errors.CoEError]) -> None:
    answer = world.answers[world.acquire(worker, expert)]
    assert isinstance(answer, fx.Reject)
    assert isinstance(answer.error, error)


def test_the_line_is_bounded() -> None:
    world = World.of(SIZES, hbm=8, max_waiting=1)
    world.attach("w1")
    world.acquire("w1", "big")
    world.acquire("w1", "a")
    answer = world.answers[world.acquire("w1", "b")]
    assert isinstance(answer, fx.Reject)
    assert isinstance(answer.error, errors.CapacityExceeded)


def test_slots_run_out_before_bytes_do() -> None:
    world = World.of(SIZES, hbm=12, slots=2)
    world.attach("w1")
    for expert in ("a", "b"):
        world.release(world.acquire("w1", expert))
        world.settle()
    request = world.acquire("w1", "c")
    world.settle()
    world.grant(request)
    assert world.evicted == ["a"]


def test_a_small_ddr_evicts_and_is_bypassed() -> None:
    world = World.of(SIZES, hbm=12, ddr=4)
    world.attach("w1")
    world.acquire("w1", "a")
    world.acquire("w1", "b")
    world.settle()
    assert world.in_ddr == {"a"}, "a's bytes are being copied: b is read past the tier"
    world.acquire("w1", "c")
    world.settle()
    assert world.in_ddr == {"c"}


def test_an_unreadable_ddr_entry_is_dropped_after_its_copy(world: World) -> None:
    world.acquire("w1", "a")
    world.end_read("a", ok=False)
    world.end_copy()
    assert not world.tiers.ddr.entries
