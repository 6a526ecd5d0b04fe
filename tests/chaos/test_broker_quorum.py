"""Three brokers; the leader of a topic is killed under load, twice. Nothing is lost and nothing is doubled.

What a slow machine may do is not a failure: a publisher that was not answered in time does not know whether its prompt
is on the topic, so that prompt may be answered or not; and waiting ends only when nothing moves any more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from coe._proto import events_pb2
from coe.local.kafka import KafkaNode, KafkaServer
from coe.local.kafka.server import new_cluster_id
from coe.local.ports import free_port
from coe.platform.bus.api import Outcome, Outgoing, ParallelConsumer, Record, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500)]

# Answered before each kill, and more after it.
BEFORE, AFTER = 150, 50
PER_SECOND = 20
# Without any progress for so long, something is stuck.
STUCK_S = 180.0
START_TIMEOUT_S = 300.0
SPECS = [TopicSpec("in", 4), TopicSpec("middle", 4), TopicSpec("out", 4)]
# Patient: on a machine with little to spare, a broker that only waited for its turn must not count as dead. Two of
# three have to be in sync, so with one killed, one more that is taken for dead stops everything.
PATIENT = {
    "broker.session.timeout.ms": "12000",
    "broker.heartbeat.interval.ms": "1000",
    "controller.quorum.election.timeout.ms": "5000",
    "controller.quorum.fetch.timeout.ms": "10000",
    "controller.quorum.request.timeout.ms": "6000",
}


class Quorum:
    """Three nodes on loopback, each broker and controller."""

    def __init__(self, directory: Path) -> None:
        voters = {number: free_port() for number in (1, 2, 3)}
        self._cluster_id = new_cluster_id()
        self._directory = directory
        self._nodes = {number: KafkaNode(number, free_port(), voters, heap_mb=256, extra=PATIENT) for number in voters}
        self.servers: dict[int, KafkaServer] = {}

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self._nodes.values())

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            directory = self._directory / str(number)
            self.servers[number] = KafkaServer(
                directory, self._nodes[number], cluster_id=self._cluster_id, start_timeout_s=START_TIMEOUT_S
            )
        await asyncio.gather(*(self.servers[number].start() for number in numbers))

    async def kill(self, number: int) -> None:
        child = self.servers[number].child
        assert child is not None
        child.kill()
        await child.wait()

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    async def leader(self, topic: str) -> int:
        async with asyncio.timeout(STUCK_S):
            while True:
                for described in await self._topics():
                    if (
                        described["topic"] == topic
                        and (leader := int(described["partitions"][0]["leader"])) in self._nodes
                    ):
                        return leader
                await asyncio.sleep(0.5)

    async def until_in_sync(self) -> None:
        """Every replica of every topic has caught up: until then the next broker may not die, two must stay in sync."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                parts = [part for topic in await self._topics() for part in topic["partitions"]]
                if parts and all(len(part["isr"]) == len(part["replicas"]) for part in parts):
                    return
                await asyncio.sleep(0.5)

    async def _topics(self) -> list[dict[str, Any]]:
        """Everything about every topic; nothing when the broker that was asked does not answer."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            found: list[dict[str, Any]] = await admin.describe_topics(await admin.list_topics())
        except KafkaError:
            return []
        finally:
            await admin.close()
        return found


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


async def submit(bus: KafkaBus, over: asyncio.Event, acknowledged: set[str], unknown: set[str]) -> None:
    """Until it is over: however long the brokers take, they die and come back under load.

    `unknown` takes the prompts of which the publisher can't say whether they are on the topic.
    """

    async def publish(request_id: str) -> None:
        try:
            message = events_pb2.PromptSubmitted(request_id=request_id)
            await bus.publisher.publish(Outgoing("in", request_id, message))
        except Unavailable:
            unknown.add(request_id)
        else:
            acknowledged.add(request_id)

    async with asyncio.TaskGroup() as sends:
        for number in count():
            if over.is_set():
                break
            sends.create_task(publish(str(number)))
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
    acknowledged: set[str] = set()
    unknown: set[str] = set()
    over = asyncio.Event()
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
            submitting = group.create_task(submit(bus, over, acknowledged, unknown))
            for _ in range(2):
                await until(seen, len(seen) + BEFORE)
                leader = await brokers.leader("out")
                await brokers.kill(leader)
                await until(seen, len(seen) + AFTER)
                await brokers.start(leader)
                await brokers.until_in_sync()
            over.set()
            await submitting
            await until_all(seen, acknowledged)
            for loop in loops:
                loop.cancel()
        everything = await answered(brokers.bootstrap)
    assert acknowledged - everything.keys() == set(), "lost"
    assert {request_id for request_id, times in everything.items() if times > 1} == set(), "doubled"
    assert everything.keys() <= acknowledged | unknown
    assert not seen - everything, "read, and not on the topic"
    assert acknowledged - seen.keys() == set(), "on the topic, and not followed"


async def follow(records: AsyncIterator[Record], seen: Counter[str]) -> None:
    async for record in records:
        seen[(record.key or b"").decode()] += 1


async def until(seen: Counter[str], answers: int) -> None:
    await _while_it_moves(seen, lambda: len(seen) >= answers)


async def until_all(seen: Counter[str], wanted: set[str]) -> None:
    await _while_it_moves(seen, lambda: wanted <= seen.keys())


async def _while_it_moves(seen: Counter[str], reached: Callable[[], bool]) -> None:
    while not reached():
        before = len(seen)
        async with asyncio.timeout(STUCK_S):
            while len(seen) == before:  # noqa: ASYNC110 (counted by a reader task)
                await asyncio.sleep(0.05)
