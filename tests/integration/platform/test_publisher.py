"""A producer whose sender ended is replaced: a process does not stay mute."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from coe._proto import events_pb2
from coe.platform.bus.api import Outgoing, TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.kafka.client import stop_producer
from coe.platform.bus.kafka.connection import Connection
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


async def test_a_message_that_was_given_up_stops_none_after_it(kafka_bootstrap: str) -> None:
    topic = f"out-{uuid4().hex[:8]}"
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[TopicSpec(topic, 1)])
    await bus.start()
    async with bus.tail([topic]) as records:
        await bus.publisher.publish(Outgoing(topic, "a", events_pb2.PromptCompleted(request_id="a")))
        # What a batch leaves that expired while the broker was away: a number that never comes.
        assert bus.publisher._producer is not None
        bus.publisher._producer._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 1)
        for name in ("b", "c"):
            await bus.publisher.publish(Outgoing(topic, name, events_pb2.PromptCompleted(request_id=name)))
        assert [(await anext(records)).key for _ in range(3)] == [b"a", b"b", b"c"]
    await bus.stop()


async def test_a_producer_that_can_not_be_replaced_yet_is_replaced_later(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"out-{uuid4().hex[:8]}"
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[TopicSpec(topic, 1)])
    await bus.start()
    message = Outgoing(topic, "a", events_pb2.PromptCompleted(request_id="a"))
    await bus.publisher.publish(message)
    assert bus.publisher._producer is not None
    bus.publisher._producer._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 1)
    with monkeypatch.context() as away:
        away.setattr(bus.publisher, "_connection", Connection("127.0.0.1:1", "coe-test"))
        with pytest.raises(Unavailable):
            await bus.publisher.publish(message)
    await bus.publisher.publish(message)
    await bus.stop()


async def test_a_stopped_bus_takes_nothing(kafka_bootstrap: str) -> None:
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=())
    await bus.start()
    await bus.stop()
    with pytest.raises(Unavailable, match="not started"):
        await bus.publisher.publish(Outgoing("t", "a", events_pb2.PromptCompleted()))
