"""No client of the bus leaves a connection or a task behind, whenever it is stopped."""

import asyncio
import gc
import warnings
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import RequestTimedOutError

from coe.platform.bus.api import TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.kafka.client import closing, stop_consumer, stop_producer

pytestmark = pytest.mark.kafka


async def new_topic(bootstrap: str) -> str:
    """Of one partition."""
    topic = f"topic-{uuid4().hex}"
    bus = KafkaBus(bootstrap, source="coe/test", start_timeout_s=30, ensure=[TopicSpec(topic, 1)])
    await bus.start()
    await bus.stop()
    return topic


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_start_cancelled_at_any_moment_leaves_nothing_open(kafka_bootstrap: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for count in range(0, 120, 3):
            admin = closing(AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap))
            starting = asyncio.create_task(admin.start())
            await turns(count)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await admin.close()
            await turns(3)
            del admin, starting
            gc.collect()
    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []


async def test_a_connection_that_is_being_opened_is_closed_too(kafka_bootstrap: str) -> None:
    client = closing(AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap))._client
    await client.bootstrap()
    opening = asyncio.create_task(client.ready(client.get_random_node()))
    await turns(2)
    await client.close()
    await opening
    assert not any(connection.connected() for connection in client._conns.values())
    assert not await client.ready(client.get_random_node())


async def test_a_connection_that_the_broker_ended_is_closed_before_the_next(kafka_bootstrap: str) -> None:
    client = closing(AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap))._client
    await client.bootstrap()
    node = client.get_random_node()
    assert await client.ready(node)
    (ended,) = client._conns.values()
    ended._reader.feed_eof()
    assert await client.ready(node)
    assert ended not in client._conns.values()
    assert ended._writer is None
    await client.close()


async def test_a_stop_that_is_given_up_ends_all_the_same(kafka_bootstrap: str) -> None:
    topic = await new_topic(kafka_bootstrap)
    before = asyncio.all_tasks()
    consumer = closing(AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap, group_id=topic))
    await consumer.start()
    client = consumer._client
    await stop_consumer(consumer, timeout_s=0)
    assert not any(connection.connected() for connection in client._conns.values())
    await asyncio.wait(asyncio.all_tasks() - before or {asyncio.create_task(turns(1))}, timeout=10)
    assert asyncio.all_tasks() <= before


async def test_a_producer_that_can_not_deliver_ends_all_the_same(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await new_topic(kafka_bootstrap)
    asked = asyncio.Event()

    async def hangs(node_id: int, request: object, **options: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    producer = closing(AIOKafkaProducer(bootstrap_servers=kafka_bootstrap))
    await producer.start()
    await producer.client.set_topics([topic])
    monkeypatch.setattr(producer.client, "send", hangs)
    await producer.send(topic, b"one under way")
    await asked.wait()
    await producer.send(topic, b"one behind it")
    await stop_producer(producer, timeout_s=0)
    await asyncio.wait(asyncio.all_tasks() - before or {asyncio.create_task(turns(1))}, timeout=10)
    assert asyncio.all_tasks() <= before


async def test_a_stop_right_after_a_fetch_failed_is_an_ordinary_one(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka's fetch task pauses then; its end must neither reach the caller nor leave the client open."""
    topic = await new_topic(kafka_bootstrap)
    failed = asyncio.Event()

    async def fails(node_id: int, request: object, **options: object) -> object:
        failed.set()
        raise RequestTimedOutError

    before = asyncio.all_tasks()
    consumer = closing(AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap, retry_backoff_ms=60_000))
    await consumer.start()
    client = consumer._client
    monkeypatch.setattr(client, "send", fails)
    await failed.wait()
    await turns(3)
    await stop_consumer(consumer)
    assert not any(connection.connected() for connection in client._conns.values())
    assert asyncio.all_tasks() <= before


async def test_a_cancellation_of_a_stop_goes_on_to_the_caller(kafka_bootstrap: str) -> None:
    topic = await new_topic(kafka_bootstrap)
    consumer = closing(AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap, group_id=topic))
    await consumer.start()
    client = consumer._client
    stopping = asyncio.create_task(stop_consumer(consumer))
    await turns(1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not any(connection.connected() for connection in client._conns.values())
