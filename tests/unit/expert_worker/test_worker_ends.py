"""How a worker stops: drained, or by a fatal error."""

import asyncio

import pytest

from unit.expert_worker.worker_fakes import WAIT_S, Panic
from unit.expert_worker.worker_rig import Rig, assigned


async def test_drain_finishes_running_prompts_and_hands_back_waiting_ones() -> None:
    rig = Rig()
    task = asyncio.create_task(rig.worker.run())
    rig.gate.clear()
    running = rig.bus.put(assigned("r"))
    waiting = rig.bus.put(assigned("s", expert="b"))
    # Its chunk says that the first prompt is in the engine, which waits at the gate; the second was posted before.
    await rig.bus.until(lambda: rig.bus.posted)
    draining = asyncio.create_task(rig.worker.drain(WAIT_S))
    await asyncio.sleep(0)
    rig.gate.set()
    assert await draining == 1
    await task
    assert running in rig.bus.ended
    assert waiting not in rig.bus.ended
    assert rig.leases.held == {}


async def test_a_prompt_whose_attempt_is_recorded_during_a_drain_is_handed_back() -> None:
    rig = Rig()
    rig.gate.clear()
    counted = rig.bus.counting[0] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(rig.worker.run())
    for name in "rs":
        rig.bus.put(assigned(name))
    await rig.bus.until(lambda: rig.bus.posted)
    draining = asyncio.create_task(rig.worker.drain(WAIT_S))
    await asyncio.sleep(0)
    counted.set_result(None)
    rig.gate.set()
    await draining
    await task
    assert set(rig.bus.ended) == {1}


async def test_a_drain_without_grace_abandons_running_prompts() -> None:
    rig = Rig()
    task = asyncio.create_task(rig.worker.run())
    rig.bus.put(assigned("r", max_tokens=100_000))
    await rig.bus.until(lambda: rig.bus.posted)
    await rig.worker.drain(0.0)
    await task
    assert rig.bus.ended == {}


async def test_a_failure_of_the_bus_stops_the_worker() -> None:
    rig = Rig()

    async def fail(record: object, outcome: object) -> bool:
        raise ConnectionError("gone")

    rig.bus.complete = fail  # type: ignore[assignment]
    rig.bus.put(assigned("r"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionError):
            await rig.worker.run()


async def test_a_fatal_engine_error_stops_the_worker() -> None:
    """A panic of a library is no Exception; a worker that waited for its step would be silent for ever."""
    rig = Rig()
    rig.bus.put(assigned("r", "panic"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(Panic):
            await rig.worker.run()


async def test_a_cancellation_leaked_by_the_bus_stops_the_worker() -> None:
    rig = Rig()

    async def cancelled(record: object, outcome: object) -> bool:
        raise asyncio.CancelledError

    rig.bus.complete = cancelled  # type: ignore[assignment]
    rig.bus.put(assigned("r"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(RuntimeError, match="cancelled from within"):
            await rig.worker.run()
