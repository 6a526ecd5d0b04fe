"""A prompt that crashes every worker that takes it: the prompts around it are answered all the same."""

import asyncio

import pytest

from coe._proto import events_pb2
from coe.expert_worker.intake import MAX_ATTEMPTS
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.memory.broker import MemoryBroker
from coe.platform.bus.memory.bus import MemoryBus
from support.deadlines import until_true
from unit.expert_worker.worker_fakes import WAIT_S, Panic
from unit.expert_worker.worker_rig import Rig, assigned

PROMPTS = 60


def ends(broker: MemoryBroker) -> dict[str, events_pb2.PromptCompleted]:
    records = [record for log in broker.partitions(topics.COMPLETIONS) for record in log]
    ended = [events_pb2.PromptCompleted.FromString(record.value) for record in records]
    assert len({one.request_id for one in ended}) == len(ended), "answered twice"
    return {one.request_id: one for one in ended}


@pytest.mark.parametrize("deadly", [0, 7, PROMPTS - 1])
async def test_only_the_prompt_that_crashes_workers_ends_with_an_error(deadly: int) -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    for number in range(PROMPTS):
        prompt = assigned(f"r{number}", "panic" if number == deadly else "hi", max_tokens=1)
        await bus.publish(Outgoing(topics.ASSIGNMENTS, "a#0", prompt))
    deaths = 0
    while len(ends(broker)) < PROMPTS:
        rig = Rig(bus=bus)  # type: ignore[arg-type]
        run = asyncio.create_task(rig.worker.run())
        await until_true(lambda run=run: run.done() or len(ends(broker)) == PROMPTS)  # type: ignore[misc]
        if not run.done():
            await rig.worker.drain(WAIT_S)
            await run
            break
        with pytest.raises(Panic):
            await run
        deaths += 1
    assert deaths == MAX_ATTEMPTS
    ended = ends(broker)
    assert ended.pop(f"r{deadly}").error.code == "internal"
    assert {one.completion.text for one in ended.values()} == {"t"}
