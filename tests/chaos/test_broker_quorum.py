"""Three brokers; the leader of a topic is killed under load, twice. Nothing is lost and nothing is doubled."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from coe._proto import events_pb2
from coe.local.kafka import KafkaNode, KafkaServer
from coe.local.kafka.server import new_cluster_id
from coe.local.ports import free_port
from coe.platform.bus.api import Outcome, Outgoing, ParallelConsumer, Record, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PROMPTS = 900
PER_SECOND = 20
SPECS = [TopicSpec("in", 4), TopicSpec("middle", 4), TopicSpec("out", 4)]
# A broker's death is noticed soon; the quorum's own timeouts are long, for machines with little to spare.
FAST_FAILOVER = {
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    "controller.quorum.election.timeout.ms": "4000",
    "controller.quorum.fetch.timeout.ms": "6000",
}


class Quorum:
    """Three nodes on loopback, each broker and controller."""

    def __init__(self, directory: Path) -> None:
        voters = {number: free_port() for number in (1, 2, 3)}
        self._cluster_id = new_cluster_id()
        self._directory = directory
        self._nodes = {
            number: KafkaNode(number, free_port(), voters, heap_mb=256, extra=FAST_FAILOVER) for number in voters
        }
        self.servers: dict[int, KafkaServer] = {}

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self._nodes.values())

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            directory = self._directory / str(number)
            self.servers[number] = KafkaServer(directory, self._nodes[number], cluster_id=self._cluster_id)
        await asyncio.gather(*(self.servers[number].start() for number in numbers))

    async def kill(self, number: int) -> None:
        child = self.servers[number].child
        assert child is not None
        child.kill()
        await child.wait()

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    async def leader(self, topic: str) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            (described,) = await admin.describe_topics([topic])
        finally:
            await admin.close()
        return int(described["partitions"][0]["leader"])

    async def until_in_sync(self) -> None:
        """Every replica of every topic has caught up: until then the next broker may not die, two must stay in sync."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(180):
                while True:
                    topics = await admin.describe_topics(await admin.list_topics())
                    if all(len(one["isr"]) == len(one["replicas"]) for topic in topics for one in topic["partitions"]):
                        return
                    await asyncio.sleep(0.5)
        finally:
            await admin.close()


@asynccontextmanager
async def quorum(directory: Path) -> AsyncIterator[Quorum]:
    quorum = Quorum(directory)
    try:
        await quorum.start(1, 2, 3)
        yield quorum
    finally:
        await quorum.stop()


async def route(records: Sequence[Record]) -> Sequence[Outcome]:
    ids = [(record.key or b"").decode() for record in records]
    return [Outcome(publish=(Outgoing("middle", one, events_pb2.PromptSubmitted(request_id=one)),)) for one in ids]


async def work(bus: KafkaBus) -> None:
    """Answers out of order."""
    async with (
        bus.parallel(Subscription("middle", "worker", max_in_flight=64)) as consumer,
        asyncio.TaskGroup() as all_,
    ):
        async for record in consumer:
            all_.create_task(answer(consumer, record))


async def answer(consumer: ParallelConsumer, record: Record) -> None:
    await asyncio.sleep(record.offset % 7 / 20)
    request_id = (record.key or b"").decode()
    completed = events_pb2.PromptCompleted(request_id=request_id)
    await consumer.complete(record, Outcome(publish=(Outgoing("out", request_id, completed),)))


async def submit(bus: KafkaBus) -> None:
    async with asyncio.TaskGroup() as sends:
        for number in range(PROMPTS):
            message = events_pb2.PromptSubmitted(request_id=str(number))
            sends.create_task(bus.publisher.publish(Outgoing("in", str(number), message)))
            await asyncio.sleep(1 / PER_SECOND)


async def answered(bootstrap: str) -> Counter[str]:
    """Everything on the output topic, by an independent reader."""
    found: Counter[str] = Counter()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with consumer:
        partitions = [TopicPartition("out", partition) for partition in range(4)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            batch = await consumer.getmany(*partitions, timeout_ms=500)
            found.update(record.key.decode() for records in batch.values() for record in records)
    return found


async def test_the_leader_dies_twice_under_load(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        brokers = await stack.enter_async_context(quorum(tmp_path))
        bus = KafkaBus(brokers.bootstrap, source="coe/chaos", ensure=SPECS)
        await bus.start()
        stack.push_async_callback(bus.stop)
        records = await stack.enter_async_context(bus.tail(["out"]))
        # A task that fails ends the test at once.
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(bus.process(Subscription("in", "router"), route)),
                group.create_task(work(bus)),
                group.create_task(follow(records, seen)),
            ]
            submitting = group.create_task(submit(bus))
            for share in (0.2, 0.6):
                await until(seen, share * PROMPTS)
                leader = await brokers.leader("out")
                await brokers.kill(leader)
                await until(seen, len(seen) + 20)
                await brokers.start(leader)
                await brokers.until_in_sync()
            await submitting
            await until(seen, PROMPTS)
            for loop in loops:
                loop.cancel()
        everything = await answered(brokers.bootstrap)
    assert everything == dict.fromkeys(map(str, range(PROMPTS)), 1)
    assert seen == everything


async def follow(records: AsyncIterator[Record], seen: Counter[str]) -> None:
    async for record in records:
        seen[(record.key or b"").decode()] += 1


async def until(seen: Counter[str], count: float) -> None:
    async with asyncio.timeout(120):
        while len(seen) < count:  # noqa: ASYNC110 (counted by a reader task)
            await asyncio.sleep(0.05)
