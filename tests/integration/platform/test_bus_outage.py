"""The broker is away at the start, and again in the middle of work."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from coe._proto import events_pb2
from coe.local.kafka import KafkaNode, KafkaServer
from coe.local.ports import free_port
from coe.platform.bus.api import Outcome, Outgoing, Record, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus, connection, publisher
from coe.platform.errors import Unavailable

pytestmark = pytest.mark.kafka


async def test_a_bus_without_broker_says_so_in_time() -> None:
    bus = KafkaBus(f"127.0.0.1:{free_port()}", source="coe/test", start_timeout_s=0.5)
    with pytest.raises(Unavailable, match="no Kafka broker answers"):
        await bus.start()
    assert not await bus.healthy()


async def test_work_goes_on_when_the_broker_is_back(tmp_path: Path) -> None:
    node = KafkaNode(node_id=1, port=free_port(), voters={1: free_port()})
    kafka = KafkaServer(tmp_path, node)
    bus = KafkaBus(kafka.bootstrap, source="coe/test", ensure=[TopicSpec("in", 2), TopicSpec("out", 2)])
    starting = asyncio.create_task(bus.start())
    await kafka.start()
    await starting
    answered: list[str] = []
    async with bus.tail(["out"]) as records:
        working = [
            asyncio.create_task(bus.process(Subscription("in", "group"), answer)),
            asyncio.create_task(follow(records, answered)),
        ]
        await submit(bus, "before")
        await until(lambda: "before" in answered)
        await kafka.stop()
        assert not await bus.healthy()
        kafka = KafkaServer(tmp_path, node)
        await kafka.start()
        await submit(bus, "after")
        await until(lambda: "after" in answered)
        assert await bus.healthy()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    await bus.stop()
    await kafka.stop()
    assert answered == ["before", "after"]


async def test_a_broker_that_hangs_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT_MS", 500)
    monkeypatch.setattr(publisher, "_PUBLISH_TIMEOUT_S", 10.0)
    async with KafkaServer(tmp_path) as kafka:
        bus = KafkaBus(kafka.bootstrap, source="coe/test", ensure=[TopicSpec("known", 1)])
        await bus.start()
        known, unknown = (Outgoing(topic, "a", events_pb2.PromptSubmitted()) for topic in ("known", "unknown"))
        await bus.publisher.publish(known)
        assert kafka.child is not None
        os.kill(kafka.child.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable, match="Kafka broker did not acknowledge the message: it does not answer"):
                await bus.publisher.publish(known)
            with pytest.raises(Unavailable, match="Kafka broker does not take messages: it does not answer"):
                await bus.publisher.publish(unknown)
        finally:
            os.kill(kafka.child.pid, signal.SIGCONT)
        with pytest.raises(Unavailable, match="does not take messages: UnknownTopic"):
            await bus.publisher.publish(unknown)
        await bus.stop()


async def answer(records: Sequence[Record]) -> list[Outcome]:
    ids = [(record.key or b"").decode() for record in records]
    return [Outcome(publish=(Outgoing("out", one, events_pb2.PromptCompleted(request_id=one)),)) for one in ids]


async def follow(records: AsyncIterator[Record], answered: list[str]) -> None:
    async for record in records:
        answered.append((record.key or b"").decode())


async def submit(bus: KafkaBus, request_id: str) -> None:
    await bus.publisher.publish(Outgoing("in", request_id, events_pb2.PromptSubmitted(request_id=request_id)))


async def until(condition: "object") -> None:
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (counted by a reader task)
            await asyncio.sleep(0.02)
