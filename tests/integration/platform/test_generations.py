"""What one transaction over several partitions rests on: the broker's checks of the group's generation."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ProducerFenced

from coe._proto import events_pb2
from coe.platform.bus.api import Outcome, Outgoing, ParallelConsumer, Record, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.client import stop_producer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.generations import Identity
from coe.platform.bus.kafka.producers import EXPELLED, TransactionalProducer

pytestmark = pytest.mark.kafka
PARTITIONS = 4


class Group:
    """Topics and a group of one test's own."""

    def __init__(self, bootstrap: str) -> None:
        run = uuid4().hex[:8]
        self.bootstrap, self.input, self.output, self.name = bootstrap, f"in-{run}", f"out-{run}", f"group-{run}"
        self.connection = Connection(bootstrap, client_id="coe-test")
        specs = [TopicSpec(self.input, PARTITIONS), TopicSpec(self.output, 1)]
        self.bus = KafkaBus(bootstrap, source="coe/test", ensure=specs)
        self.admin = Admin(self.connection)

    def subscription(self) -> Subscription:
        return Subscription(self.input, self.name)

    async def submit_to_each_partition(self) -> None:
        for partition in range(PARTITIONS):
            message = events_pb2.PromptSubmitted(request_id=f"r{partition}")
            await self.bus.publisher.publish(Outgoing(self.input, message.request_id, message, partition=partition))

    def answer(self, record: Record) -> Outcome:
        completed = events_pb2.PromptCompleted(request_id=(record.key or b"").decode())
        return Outcome(publish=(Outgoing(self.output, completed.request_id, completed),))

    async def end_of_output(self, records: int) -> int:
        """Once a marker stands behind so many records: the broker writes it after the transaction has ended."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            tp = TopicPartition(self.output, 0)
            async with asyncio.timeout(30):
                while (end := (await consumer.end_offsets([tp]))[tp]) <= records:  # noqa: ASYNC110 (the broker cannot wake us)
                    await asyncio.sleep(0.01)
            return int(end)
        finally:
            await consumer.stop()


@pytest.fixture
async def group(kafka_bootstrap: str) -> AsyncIterator[Group]:
    group = Group(kafka_bootstrap)
    await group.bus.start()
    await group.admin.start()
    yield group
    await group.admin.stop()
    await group.bus.stop()


async def take(consumer: ParallelConsumer, count: int) -> list[Record]:
    async with asyncio.timeout(30):
        return [await anext(aiter(consumer)) for _ in range(count)]


async def test_what_completes_together_is_one_transaction_over_all_partitions(group: Group) -> None:
    await group.submit_to_each_partition()
    async with group.bus.parallel(group.subscription()) as consumer:
        records = await take(consumer, PARTITIONS)
        assert {record.partition for record in records} == set(range(PARTITIONS))
        done = await asyncio.gather(*(consumer.complete(record, group.answer(record)) for record in records))
        assert all(done)
    # A transaction ends with one marker on each partition that it wrote to.
    assert await group.end_of_output(PARTITIONS) == PARTITIONS + 1
    committed = await group.admin.committed(
        group.name, [TopicPartition(group.input, 0), TopicPartition(group.input, 3)]
    )
    assert [offset for offset, _ in committed.values()] == [1, 1]


@pytest.mark.parametrize("identity", [Identity(1, "nobody"), Identity(77, "nobody")])
async def test_a_commit_by_somebody_the_group_does_not_know_is_refused(group: Group, identity: Identity) -> None:
    await group.submit_to_each_partition()
    async with group.bus.parallel(group.subscription()) as consumer:
        await take(consumer, PARTITIONS)
        producer = TransactionalProducer(group.connection, f"{group.name}.stranger")
        await producer.start()
        try:
            await producer.begin_transaction()
            sent = await producer.send(group.output, b"never read")
            with pytest.raises(EXPELLED):
                await producer.send_offsets({TopicPartition(group.input, 0): (1, "")}, group.name, identity)
            # What was sent and the marker of the abort.
            assert (await sent).offset == 0
            assert await group.end_of_output(1) == 2
            await producer.begin_transaction()
            await producer.abort_transaction()
        finally:
            await stop_producer(producer)


async def test_offsets_of_an_open_transaction_are_not_known_until_its_producer_is_fenced(group: Group) -> None:
    # A group without members takes offsets from anybody who claims no generation.
    tps = [TopicPartition(group.input, 0), TopicPartition(group.input, 1)]
    producer = TransactionalProducer(group.connection, f"{group.name}.owner")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_offsets({tps[0]: (5, "half done")}, group.name, Identity(-1, ""))
        assert await group.admin.committed(group.name, tps) == {tps[1]: (None, "")}
        await group.admin.fence([f"{group.name}.owner"])
        async with asyncio.timeout(30):
            while tps[0] not in (found := await group.admin.committed(group.name, tps)):  # noqa: ASYNC110 (the broker can't wake us)
                await asyncio.sleep(0.01)
        assert found[tps[0]] == (None, "")
        with pytest.raises(ProducerFenced):
            await producer.commit_transaction()
    finally:
        await stop_producer(producer)
