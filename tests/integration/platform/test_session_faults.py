"""A fault inside the client library costs a partition a pause, not its life."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from coe._proto import events_pb2
from coe.platform.bus.api import Outcome, Outgoing, Record, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (AIOKafkaProducer, "begin_transaction"),
        (AIOKafkaProducer, "commit_transaction"),
        (AIOKafkaProducer, "start"),
        (AIOKafkaConsumer, "getmany"),
    ],
)
async def test_work_goes_on_after_a_fault(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch, kind: type, method: str
) -> None:
    run = uuid4().hex[:8]
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[TopicSpec(f"in-{run}", 1), TopicSpec(f"out-{run}", 1)])
    await bus.start()
    original, left = getattr(kind, method), [2]

    async def faulty(self: object, *args: object, **options: object) -> object:
        if left[0]:
            left[0] -= 1
            raise AssertionError("invalid state transition")
        return await original(self, *args, **options)

    async def answer(records: Sequence[Record]) -> Sequence[Outcome]:
        ids = [(record.key or b"").decode() for record in records]
        return [
            Outcome(publish=(Outgoing(f"out-{run}", one, events_pb2.PromptCompleted(request_id=one)),)) for one in ids
        ]

    seen: Counter[bytes | None] = Counter()
    async with bus.tail([f"out-{run}"]) as records, asyncio.timeout(60):
        for name in ("a", "b", "c"):
            await bus.publisher.publish(Outgoing(f"in-{run}", name, events_pb2.PromptSubmitted(request_id=name)))
        monkeypatch.setattr(kind, method, faulty)
        working = asyncio.create_task(bus.process(Subscription(f"in-{run}", f"group-{run}"), answer))
        async for record in records:
            seen[record.key] += 1
            if len(seen) == 3:
                break
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    await bus.stop()
    assert left == [0]
    assert seen == {b"a": 1, b"b": 1, b"c": 1}
