"""An unresponsive disk blocks the threads that read from it, and nobody else."""

import asyncio
import threading

import pytest

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import runtime as runtime_module
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.disk_threads import DiskThreads
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.tiers import State
from coe.platform.errors import CoEError, TierLoadError
from support.deadlines import until_true
from support.fake_arena import FakeArena, FakeLibrary
from support.tiers_world import World

SIZES = {"hung": 4, "a": 4, "b": 4, "c": 4, "big": 12}


def world_of(**limits: float) -> World:
    world = World.of(SIZES, hbm=12, **limits)
    world.attach("w1", "w2")
    return world


def pass_time(world: World, seconds: float) -> None:
    world.now += seconds
    world.send(ev.Tick())


def error_of(world: World, request: int) -> CoEError:
    answer = world.answers[request]
    assert isinstance(answer, fx.Reject)
    return answer.error


def test_a_copy_that_waits_for_its_disk_releases_the_link() -> None:
    world = world_of()
    slow, other = world.acquire("w1", "hung", resident=True), world.acquire("w2", "a", resident=True)
    assert world.copying.keys() == {"hung"}
    world.stall_copy("hung")
    assert world.copying.keys() == {"hung", "a"}
    world.end_copy(expert="a")
    assert world.grant(other)
    assert slow not in world.answers, "it may come yet"
    world.end_copy(expert="hung")
    assert world.grant(slow)


def test_reports_about_a_copy_that_has_ended_are_ignored() -> None:
    world = world_of()
    world.acquire("w1", "a")
    generation = world.tiers.hbm.entries["a"].generation or 0
    world.settle()
    world.send(ev.CopyWaits("a", generation))
    world.send(ev.CopyWaits("nobody", 1))
    assert not world.tiers.hbm.aside


@pytest.mark.parametrize("stalls", [False, True])
def test_after_the_load_timeout_the_link_is_free_though_the_copy_never_ends(stalls: bool) -> None:
    world = world_of(load_timeout_s=60.0)
    hung = world.acquire("w1", "hung", resident=True)
    pass_time(world, 30)
    waiting = world.acquire("w2", "a", resident=True)
    if stalls:
        world.stall_copy("hung")
    pass_time(world, 31)
    assert "took more than 60 s (COE_TIERS_LOAD_TIMEOUT_S)" in error_of(world, hung).message
    assert world.cancelled == {"hung"}
    assert "a" in world.copying
    world.end_copy(expert="a")
    assert world.grant(waiting)
    # Its bytes are nobody's until its threads have let go of them; who asks for it hears why at once.
    assert world.tiers.hbm.budget.freeing == 4
    again = world.acquire("w1", "hung")
    assert isinstance(error_of(world, again), TierLoadError)
    assert "disk is not responding" in error_of(world, again).message
    world.end_copy(expert="hung")
    world.settle()
    assert world.tiers.hbm.budget.freeing == 0
    assert world.acquire("w1", "hung") in world.answers


def test_a_lease_during_a_copy_is_granted_with_the_first_bytes() -> None:
    world = world_of()
    world.silent.add("hung")
    first = world.acquire("w1", "hung")
    second = world.acquire("w2", "hung")
    assert not world.answers
    world.move_copy("hung")
    assert world.grant(first).generation == world.grant(second).generation
    assert world.copying.keys() == {"hung"}


def test_an_expert_in_ddr_is_leased_as_soon_as_its_copy_starts() -> None:
    world = world_of()
    for expert in ("a", "big"):
        request = world.acquire("w1", expert)
        world.settle()
        world.release(request)
    world.silent.add("a")
    again = world.acquire("w1", "a")
    world.end_free("big")
    assert world.copying.keys() == {"a"}
    assert world.grant(again)


def test_first_bytes_of_a_cancelled_load_grant_nothing() -> None:
    world = world_of()
    world.silent.add("hung")
    given_up = world.acquire("w1", "hung")
    world.send(ev.CancelAcquire(given_up))
    world.move_copy("hung")
    assert isinstance(world.answers[given_up], fx.Reject)
    assert world.tiers.hbm.entries["hung"].state is State.FREEING
    world.end_copy(expert="hung")
    world.send(ev.CopyMoves("hung", 1))


def test_with_the_maximum_of_hanging_copies_further_disk_loads_are_refused() -> None:
    world = world_of(max_aside=1)
    world.acquire("w1", "hung", resident=True)
    pass_time(world, 61)
    refused = world.acquire("w2", "a")
    assert "1 copies wait for disks that are not responding" in error_of(world, refused).message
    world.end_copy(expert="hung")
    world.settle()
    assert world.grant(world.acquire("w2", "a"))


def test_requests_do_not_wait_for_room_held_by_a_hanging_copy() -> None:
    world = world_of()
    world.acquire("w1", "hung", resident=True)
    pass_time(world, 61)
    needs_all = world.acquire("w1", "big", deadline=world.now + 10)
    behind = world.acquire("w2", "a")
    assert world.grant(behind)
    assert needs_all not in world.answers
    pass_time(world, 11)
    assert isinstance(world.answers[needs_all], fx.Reject)


def test_a_request_waiting_for_an_earlier_copy_of_its_expert_blocks_nobody() -> None:
    world = world_of()
    given_up = world.acquire("w1", "hung", resident=True)
    world.stall_copy("hung")
    world.send(ev.CancelAcquire(given_up))
    again = world.acquire("w1", "hung")
    other = world.acquire("w2", "a")
    assert world.grant(other)
    pass_time(world, 10)
    assert not any(entry.recalled for entry in world.tiers.hbm.entries.values())
    world.end_copy(expert="hung")
    world.settle()
    assert world.grant(again)


def test_hanging_copies_are_bounded_and_experts_in_ddr_still_load() -> None:
    world = world_of(max_aside=1)
    for expert in ("a", "big"):
        request = world.acquire("w1", expert)
        world.settle()
        world.release(request)
    first = world.acquire("w1", "b", resident=True)
    world.end_free("big")
    world.stall_copy("b")
    second = world.acquire("w1", "c", resident=True)
    in_memory = world.acquire("w2", "a", resident=True)
    assert world.copying.keys() == {"b", "a"}
    world.end_copy(expert="a")
    assert world.grant(in_memory)
    pass_time(world, 61)
    assert "took more than" in error_of(world, first).message
    assert "cannot start loading c: 1 copies wait" in error_of(world, second).message
    assert world.tiers.hbm.entries["b"].state is State.FREEING
    assert "c" not in world.tiers.hbm.entries


class Bench:
    def __init__(self, *, hbm_bytes: int = 12) -> None:
        self.library = FakeLibrary(hung=4, a=4, b=4)
        self.arena = FakeArena("fake", 12, 4, by_hand=True)
        limits = Limits(hbm_bytes=hbm_bytes, ddr_bytes=12, slots=4, alignment=1, load_timeout_s=0.2)
        self.tiers = Tiers(limits, EVICTION["lru"])
        self.runtime = Runtime(self.tiers, self.arena, self.library, lambda item, now: None, patience_s=0.02)
        self.runtime.post(ev.Attach("w", 1))

    def acquire(self, expert: str) -> "asyncio.Task[object]":
        event = ev.Acquire(self.runtime.next_request(), "w", expert, 4, resident=True)
        return asyncio.create_task(self.runtime.ask(event))


async def test_a_read_that_never_returns_blocks_neither_the_link_nor_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime_module, "CLOSE_S", 0.05)
    bench = Bench()
    answers = bench.library.slow["hung"] = threading.Event()
    bench.library.hanging.add("hung")
    running = asyncio.create_task(bench.runtime.run(tick_s=0.01))
    hung = bench.acquire("hung")
    await until_true(lambda: bench.arena.copies)
    other = bench.acquire("a")
    await until_true(lambda: len(bench.arena.copies) == 2)
    bench.arena.copies[1].finish()
    await other
    with pytest.raises(TierLoadError, match="took more than"):
        await hung
    assert bench.arena.copies[0].cancelled
    assert not bench.arena.copies[0].done
    await until_true(lambda: bench.runtime.disk_waits == 2)
    bench.tiers.check_integrity()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.runtime.close()
    opened = {id(source): source for source in bench.library.opened}
    assert sum(not source.closed for source in opened.values()) == 1, "the file that a thread is reading"
    answers.set()


async def test_shutdown_does_not_wait_for_a_file_that_has_since_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "CLOSE_S", 60.0)
    bench = Bench(hbm_bytes=4)
    opens = bench.library.dead["a"] = threading.Event()
    holding = bench.acquire("b")
    await until_true(lambda: bench.arena.copies)
    bench.arena.copies[0].finish()
    await holding
    prefetch = ev.Prefetch(bench.runtime.next_request(), "w", "a", 4, may_evict=False)
    await bench.runtime.ask(prefetch)
    assert "a" in bench.tiers.ddr.entries
    closing = asyncio.create_task(bench.runtime.close())
    await asyncio.sleep(0)
    opens.set()
    await asyncio.wait_for(closing, 20.0)


async def test_the_first_bytes_of_a_copy_are_seen_soon() -> None:
    bench = Bench()
    event = ev.Acquire(bench.runtime.next_request(), "w", "a", 4)
    asking = asyncio.create_task(bench.runtime.ask(event))
    await until_true(lambda: bench.arena.copies)
    await asyncio.sleep(0.05)
    assert not asking.done()
    bench.arena.copies[0].bytes_copied = 1
    grant = await asking
    assert not bench.arena.copies[0].done
    bench.runtime.post(ev.Release("w", grant.lease))  # type: ignore[attr-defined]
    bench.arena.copies[0].finish()
    await until_true(lambda: bench.tiers.idle)
    await bench.runtime.close()


async def test_a_copy_slower_than_the_link_lets_others_overtake() -> None:
    bench = Bench()
    bench.runtime._copies._link_rate = 1000.0
    slow = bench.acquire("a")
    await until_true(lambda: bench.arena.copies)
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.001):
            bench.arena.copies[0].bytes_copied += 0.01

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        other = bench.acquire("b")
        await until_true(lambda: len(bench.arena.copies) == 2)
    finally:
        stop.set()
        thread.join()
    for copy in bench.arena.copies.values():
        copy.finish()
    await asyncio.gather(slow, other)
    assert not bench.tiers.hbm.aside
    await bench.runtime.close()


class Reading:
    """Reads whose ends tests decide, on a clock of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reads = DiskThreads(patience_s=10.0, at_once=2, max_hanging=3, clock=lambda: self.now)
        self.gates: dict[str, threading.Event] = {}
        self.refused: list[str] = []

    def submit(self, *names: str) -> None:
        for name in names:
            gate = self.gates[name] = threading.Event()
            self.reads.submit(name, lambda gate=gate: gate.wait(30.0), lambda name=name: self.refused.append(name))  # type: ignore[misc]


def test_reads_take_turns_and_hanging_ones_do_not_block_the_others() -> None:
    reading = Reading()
    reading.submit("1", "2", "3")
    assert reading.reads.running == {"1", "2"}
    reading.reads.ended("1")
    assert reading.reads.running == {"2", "3"}
    reading.now = 11.0
    assert reading.reads.hanging == 2
    reading.submit("4", "5", "6")
    assert reading.reads.running == {"2", "3", "4", "5"}
    reading.now = 22.0
    reading.reads.look()
    assert reading.refused == ["6"], "four threads hang"
    reading.reads.ended("2")
    reading.reads.ended("3")
    reading.submit("7")
    assert "7" in reading.reads.running
    reading.reads.stop()
    for gate in reading.gates.values():
        gate.set()
