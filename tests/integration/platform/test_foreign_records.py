"""Records as other producers may write them, and a broker takes them."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from coe.platform import topics
from coe.platform.bus.api import TopicSpec
from coe.platform.bus.kafka import KafkaBus

pytestmark = pytest.mark.kafka


class Latin(str):
    """A header's name, written as producers may that know no UTF-8."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("latin-1")


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
async def test_a_header_name_that_is_no_text_stops_nobody(kafka_bootstrap: str, codec: int) -> None:
    topic = f"in-{uuid4().hex[:8]}"
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[TopicSpec(topic, 1)])
    await bus.start()
    async with asyncio.timeout(30), bus.tail([topic]) as records:
        async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
            batch = producer.create_batch()
            batch._builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 16)
            for key, headers in ((b"a", []), (b"b", [(Latin("Größe"), b"1"), ("x", None)]), (b"c", [("x", b"2")])):
                batch.append(timestamp=None, key=key, value=b"v", headers=headers)
            await (await producer.send_batch(batch, topic, partition=0))
            await producer.send_and_wait(topic, b"v", key=b"d")
        seen = [await anext(records) for _ in range(4)]
    await bus.stop()
    assert [record.key for record in seen] == [b"a", b"b", b"c", b"d"]
    assert seen[1].headers == (("Gr\ufffd\ufffde", b"1"), ("x", None))
    assert seen[2].headers == (("x", b"2"),)


async def test_a_prompt_is_kept_from_when_it_came_whatever_its_producer_says(kafka_bootstrap: str) -> None:
    (spec,) = [spec for spec in topics.SPECS if spec.name == topics.PROMPTS]
    own = replace(spec, name=f"prompts-{uuid4().hex[:8]}", partitions=1)
    # Shortly after 1970, and the year 3000.
    claimed = {1, 32_503_680_000_000}
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=[own])
    await bus.start()
    async with asyncio.timeout(30), bus.tail([own.name]) as records:
        async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
            for stamp in claimed:
                await producer.send_and_wait(own.name, b"x", timestamp_ms=stamp)
        seen = {(await anext(records)).timestamp_ms for _ in claimed}
    await bus.stop()
    assert not seen & claimed
