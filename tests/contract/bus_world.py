"""What the bus contract's tests stand on: a cluster, topics of one test's own, and ways to wait."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from uuid import uuid4

import pytest

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Bus, Outcome, Outgoing, ParallelConsumer, Record, Subscription, TopicSpec
from coe.platform.bus.codec import decode

PATIENCE_S = 30.0


class Cluster(Protocol):
    """A broker with the topics that a test asks for, and any number of processes on it."""

    async def create(self, specs: Sequence[TopicSpec]) -> None: ...

    async def bus(self) -> Bus:
        """A started bus, as one process has it; stopped after the test."""
        ...

    async def produce(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        """A foreign producer's message."""
        ...


class World:
    """Topics of one test's own, and shorthands."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.run = uuid4().hex[:8]
        self.input, self.output, self.group = f"in-{self.run}", f"out-{self.run}", f"group-{self.run}"

    async def create(self, partitions: int = 4) -> None:
        await self.cluster.create(
            [TopicSpec(self.input, partitions), TopicSpec(self.output, 2), TopicSpec(topics.DEAD_LETTER, 1)]
        )

    def subscription(self, **options: int) -> Subscription:
        return Subscription(self.input, self.group, **options)

    async def submit(self, bus: Bus, *request_ids: str, partition: int | None = None) -> None:
        for request_id in request_ids:
            message = events_pb2.PromptSubmitted(request_id=request_id, prompt=f"prompt of {request_id}")
            await bus.publisher.publish(Outgoing(self.input, request_id, message, partition=partition))

    def answer(self, record: Record) -> Outcome:
        request_id = decode(record, events_pb2.PromptSubmitted).request_id
        completed = events_pb2.PromptCompleted(request_id=request_id)
        return Outcome(publish=(Outgoing(self.output, request_id, completed),))

    async def answer_all(self, records: Sequence[Record]) -> Sequence[Outcome]:
        return [self.answer(record) for record in records]

    @asynccontextmanager
    async def following(self, bus: Bus, *names: str) -> AsyncIterator[list[Record]]:
        """Grows with every record of the topics (the output's by default)."""
        seen: list[Record] = []

        async def follow(records: AsyncIterator[Record]) -> None:
            async for record in records:
                seen.append(record)

        async with bus.tail(names or (self.output,)) as records, running(follow(records)):
            yield seen


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator["asyncio.Future[None]"]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (the conditions are of many kinds)
            await asyncio.sleep(0.01)


async def take(consumer: ParallelConsumer, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        async for record in consumer:
            records.append(record)
            if len(records) == count:
                break
    return records


def ids(records: Sequence[Record]) -> list[str]:
    return [(record.key or b"").decode() for record in records]


@pytest.fixture
def world(cluster: Cluster) -> World:
    return World(cluster)
