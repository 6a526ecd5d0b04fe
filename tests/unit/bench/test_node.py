"""A node that is measured: what breaks it ends the measurement."""

import asyncio

import pytest

from coe._proto import events_pb2
from coe.bench.node import completions
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.memory import MemoryBroker, MemoryBus


async def ends() -> None:
    pass


async def breaks() -> None:
    raise ZeroDivisionError("the engine broke")


@pytest.fixture
def bus() -> MemoryBus:
    broker = MemoryBroker()
    broker.create(topics.COMPLETIONS, 2)
    return MemoryBus(broker)


async def test_a_worker_that_breaks_is_not_waited_for(bus: MemoryBus) -> None:
    with pytest.raises(ZeroDivisionError, match="the engine broke"):
        await completions(bus, 1, lambda more: None, [asyncio.create_task(breaks())])


async def test_prompts_that_are_all_out_have_answers_to_come(bus: MemoryBus) -> None:
    seen: list[int] = []
    waiting = asyncio.create_task(completions(bus, 3, seen.append, [asyncio.create_task(ends())]))
    for number in range(3):
        await asyncio.sleep(0)
        await bus.post(Outgoing(topics.COMPLETIONS, str(number), events_pb2.PromptCompleted(request_id=str(number))))
    done = await waiting
    assert sorted(one.request_id for one in done) == ["0", "1", "2"]
    assert sum(seen) == 3
