"""The run loop over the fake arena: what it does with effects, errors and callers that leave."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import Runtime
from coe.platform.errors import TierLoadError, Unavailable
from support.deadlines import until_true
from support.fake_arena import FakeArena, FakeLibrary


class Bench:
    """A runtime with everything around it faked."""

    def __init__(self, *, by_hand: bool) -> None:
        self.library = FakeLibrary(a=4, b=4, c=4)
        self.arena = FakeArena("fake", 8, 4, by_hand=by_hand)
        self.tiers = Tiers(Limits(hbm_bytes=8, ddr_bytes=12, slots=4, alignment=1), EVICTION["lru"])
        self.seen: list[ev.Event | fx.Effect] = []
        self.runtime = Runtime(self.tiers, self.arena, self.library, lambda item, now: self.seen.append(item))
        self.runtime.post(ev.Attach("w", 1))

    def acquire(self, expert: str, *, resident: bool = True) -> "asyncio.Task[fx.Grant]":
        nbytes = self.library.nbytes(expert)
        event = ev.Acquire(self.runtime.next_request(), "w", expert, nbytes, resident)
        return asyncio.create_task(self.runtime.ask(event))  # type: ignore[arg-type]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(by_hand=False)
    yield bench
    await bench.runtime.close()
    assert all(source.closed for source in bench.library.opened)


@pytest.fixture
async def slow() -> AsyncIterator[Bench]:
    bench = Bench(by_hand=True)
    yield bench
    await bench.runtime.close()


async def test_loads_leases_and_evicts(bench: Bench) -> None:
    first = await bench.acquire("a")
    assert bench.arena.is_resident(first.slot)
    bench.runtime.post(ev.Release("w", first.lease))
    for expert in ("b", "c"):
        grant = await bench.acquire(expert)
        bench.runtime.post(ev.Release("w", grant.lease))
    assert [source.loads for source in bench.library.opened] == [1, 1, 1]
    assert [item.expert for item in bench.seen if isinstance(item, fx.Evicted)] == ["a"]
    await until_true(lambda: bench.tiers.idle)
    bench.tiers.check_integrity()


async def test_a_damaged_file_is_an_error_of_the_caller_only(bench: Bench) -> None:
    bench.library.damaged.add("a")
    with pytest.raises(TierLoadError):
        await bench.acquire("a")
    assert (await bench.acquire("b")).expert == "b"


@pytest.mark.parametrize("first", ["read", "copy"])
async def test_a_file_that_could_not_be_copied_is_reopened(bench: Bench, slow: Bench, first: str) -> None:
    """It may have been imported again since; what DDR holds of it, or will when it is read, is worth nothing."""
    if first == "copy":
        readable = bench.library.slow["a"] = threading.Event()
        bench.library.damaged.add("a")
        with pytest.raises(TierLoadError):
            await bench.acquire("a")
        readable.set()
    else:
        bench = slow
        bench.library.damaged.add("a")
        task = bench.acquire("a")
        await until_true(lambda: bench.tiers.ddr.has("a"))
        bench.arena.copies[0].finish()
        with pytest.raises(TierLoadError):
            await task
    await until_true(lambda: "a" not in bench.tiers.ddr.entries)
    bench.library.damaged.clear()
    again = bench.acquire("a")
    await until_true(lambda: again.done() or any(not copy.done for copy in bench.arena.copies.values()))
    for copy in bench.arena.copies.values():
        copy.finish()
    assert (await again).expert == "a"


async def test_a_file_that_is_gone_is_an_error_of_the_caller_only(bench: Bench) -> None:
    task = bench.acquire("a")
    del bench.library.sizes["a"]
    with pytest.raises(Exception, match="no expert a"):
        await task
    assert (await bench.acquire("b")).expert == "b"


async def test_weights_that_grew_are_not_copied_into_room_made_for_fewer_bytes(bench: Bench) -> None:
    stale = ev.Acquire(bench.runtime.next_request(), "w", "a", 2)
    with pytest.raises(TierLoadError, match="reimported"):
        await bench.runtime.ask(stale)
    assert (await bench.acquire("a")).expert == "a"


async def test_a_bundle_that_is_followed_by_another_leaves_ddr(bench: Bench) -> None:
    for expert in ("a", "b", "c"):
        bench.runtime.post(ev.Release("w", (await bench.acquire(expert)).lease))
    await until_true(lambda: bench.tiers.ddr.has("a") and "a" not in bench.tiers.hbm.entries)
    bench.library.sizes["a"] = 3
    with pytest.raises(TierLoadError, match="reimported"):
        await bench.acquire("a")
    assert (await bench.acquire("a")).copied == 3
    bench.tiers.check_integrity()


async def test_reads_into_ddr_do_not_delay_copies(bench: Bench) -> None:
    """However many of them there are, and however slow the disk is."""
    slow = {f"slow-{number}": threading.Event() for number in range(8)}
    bench.library.sizes.update(dict.fromkeys(slow, 1))
    bench.library.slow = slow
    for name in slow:
        await bench.runtime.ask(ev.Prefetch(bench.runtime.next_request(), "w", name, 1, may_evict=False))
    try:
        async with asyncio.timeout(10.0):
            grant = await bench.acquire("slow-7")
        assert bench.arena.is_resident(grant.slot)
    finally:
        for readable in slow.values():
            readable.set()


async def test_a_caller_that_leaves_cancels_its_load(slow: Bench) -> None:
    task = slow.acquire("a")
    await until_true(lambda: slow.arena.copies)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_true(lambda: not slow.tiers.hbm.entries)
    assert not slow.arena.is_resident(0)
    assert not slow.tiers.leases.of_worker("w")


async def test_a_caller_that_leaves_with_a_grant_releases_it(bench: Bench) -> None:
    await bench.acquire("a")
    held = len(bench.tiers.leases)
    task = bench.acquire("a", resident=False)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(bench.tiers.leases) in (held, held + 1)
    assert (len(bench.tiers.leases) == held) == task.cancelled()


async def test_closing_answers_pending_requests(slow: Bench) -> None:
    task = slow.acquire("a")
    await until_true(lambda: slow.arena.copies)
    await slow.runtime.close()
    with pytest.raises(Unavailable):
        await task


async def test_an_inconsistent_event_ends_the_loop(bench: Bench) -> None:
    loop = asyncio.create_task(bench.runtime.run(tick_s=0.01))
    with pytest.raises(KeyError):
        bench.runtime.post(ev.Freed("nobody", 0))
    with pytest.raises(KeyError):
        await loop
