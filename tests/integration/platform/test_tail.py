"""Following topics whose partitions become more: nothing of them is missed."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from coe.platform.bus.api import TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.kafka.tail import KafkaTail

pytestmark = pytest.mark.kafka


async def test_partitions_that_are_added_are_followed_from_their_beginning(kafka_bootstrap: str) -> None:
    topic = f"grows-{uuid4().hex[:8]}"
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[TopicSpec(topic, 1)])
    await bus.start()
    tail = bus.tail([topic])
    assert isinstance(tail, KafkaTail)
    async with asyncio.timeout(60), tail as records:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(3)})
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
            for partition in (0, 1, 2):
                await producer.send_and_wait(topic, b"before it is heard of", partition=partition)
            # As happens each minute.
            assert tail._consumer is not None
            await tail._consumer._client.force_metadata_update()
            for partition in (0, 1, 2):
                await producer.send_and_wait(topic, b"after", partition=partition)
        seen = [await anext(records) for _ in range(6)]
    await bus.stop()
    assert sorted((record.partition, record.offset) for record in seen) == [(n, k) for n in (0, 1, 2) for k in (0, 1)]
