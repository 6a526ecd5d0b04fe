"""A producer whose sender ended is replaced: a process does not stay mute."""

import asyncio
from uuid import uuid4

import pytest

from coe._proto import events_pb2
from coe.platform.bus.api import Outgoing, TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.kafka.client import stop_producer
from coe.platform.errors import Unavailable

pytestmark = pytest.mark.kafka


async def test_a_broken_producer_is_replaced(kafka_bootstrap: str) -> None:
    topic = f"out-{uuid4().hex[:8]}"
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[TopicSpec(topic, 1)])
    await bus.start()
    broken = bus.publisher._producer
    assert broken is not None
    broken._sender.sender_task.cancel()
    await asyncio.wait({broken._sender.sender_task})
    async with bus.tail([topic]) as records:
        await bus.publisher.publish(Outgoing(topic, "a", events_pb2.PromptCompleted(request_id="a")))
        assert (await anext(records)).key == b"a"
    await bus.stop()
    await stop_producer(broken)


async def test_a_stopped_bus_takes_nothing(kafka_bootstrap: str) -> None:
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=())
    await bus.start()
    await bus.stop()
    with pytest.raises(Unavailable, match="not started"):
        await bus.publisher.publish(Outgoing("t", "a", events_pb2.PromptCompleted()))
