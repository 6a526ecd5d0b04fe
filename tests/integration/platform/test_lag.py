"""What a group has left, as its processes ask the broker for it: with nobody reading, and after everything is read."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from coe._proto import events_pb2
from coe.platform.bus.api import Outcome, Outgoing, Record, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus, lag
from coe.platform.telemetry import registry
from support.deadlines import until

pytestmark = pytest.mark.kafka


async def answer(records: Sequence[Record]) -> Sequence[Outcome]:
    return [Outcome() for _ in records]


async def test_the_lag_of_a_group(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, group = f"lag-{uuid4().hex[:8]}", f"group-{uuid4().hex[:8]}"
    shown: dict[str, float] = {}

    class Gauge:
        def set(self, amount: float, attributes: dict[str, str]) -> None:
            assert attributes["messaging.destination.name"] == topic
            shown[attributes["messaging.consumer.group.name"]] = amount

    async def caught_up() -> bool:
        return shown.get(group) == 0

    monkeypatch.setattr(registry, "gauge", lambda name: Gauge())
    monkeypatch.setattr(lag, "PERIOD_S", 0.05)
    bus = KafkaBus(kafka_bootstrap, source="coe/test", start_timeout_s=30, ensure=[TopicSpec(topic, 3)])
    await bus.start()
    try:
        await submit(bus, topic, 7)
        working = asyncio.create_task(bus.process(Subscription(topic, group), answer))
        await until(caught_up)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await submit(bus, topic, 5)
        assert await bus._admin.lag(group, topic) == 5
        assert await bus._admin.lag(f"{group}-that-never-was", topic) == 12
    finally:
        await bus.stop()


async def submit(bus: KafkaBus, topic: str, count: int) -> None:
    for number in range(count):
        prompt = events_pb2.PromptSubmitted(request_id=str(number))
        await bus.publisher.publish(Outgoing(topic, str(number), prompt))
