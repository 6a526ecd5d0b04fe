"""What every bus must do. The same tests run on the in-memory bus and on real Kafka.

A binding gives the fixture `cluster` (see `Cluster`). Times only bound how long a test may wait for a condition.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Protocol
from uuid import uuid4

import pytest

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Bus, Outcome, Outgoing, ParallelConsumer, Record, Subscription, TopicSpec
from coe.platform.bus.codec import decode
from coe.platform.bus.ledger import MAX_IN_FLIGHT
from coe.platform.errors import InvalidPrompt, UndecodableMessage
from coe.platform.terminal import error_outcome

PATIENCE_S = 30.0


class Cluster(Protocol):
    """A broker with the topics that a test asks for, and any number of processes on it."""

    async def create(self, specs: Sequence[TopicSpec]) -> None: ...

    async def bus(self) -> Bus:
        """A started bus, as one process has it; stopped after the test."""
        ...

    async def produce(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
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


class BusSuite:
    async def test_process_publishes_one_output_a_record(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        names = [f"r{number}" for number in range(50)]
        async with world.following(bus) as seen:
            await world.submit(bus, *names)
            async with running(bus.process(world.subscription(max_batch=8), world.answer_all)):
                await until(lambda: len(seen) >= 50)
        assert sorted(ids(seen)) == sorted(names)

    async def test_a_processor_that_starts_again_goes_on_where_it_was(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        async with world.following(bus) as seen:
            for round_ in range(3):
                await world.submit(bus, *(f"r{round_}-{number}" for number in range(5)))
                async with running(bus.process(world.subscription(), world.answer_all)):
                    await until(lambda expected=5 * (round_ + 1): len(seen) >= expected)
        assert max(Counter(ids(seen)).values()) == 1

    async def test_two_processors_share_the_work(self, world: World) -> None:
        await world.create()
        first, second = await world.cluster.bus(), await world.cluster.bus()
        worked: Counter[str] = Counter()

        def counting(name: str) -> Callable[[Sequence[Record]], Awaitable[Sequence[Outcome]]]:
            async def handler(records: Sequence[Record]) -> Sequence[Outcome]:
                worked[name] += len(records)
                return await world.answer_all(records)

            return handler

        async with world.following(first) as seen, AsyncExitStack() as stack:
            await stack.enter_async_context(running(first.process(world.subscription(), counting("first"))))
            await stack.enter_async_context(running(second.process(world.subscription(), counting("second"))))
            sent = 0
            while len(worked) < 2:
                await world.submit(first, *(f"r{number}" for number in range(sent, sent + 8)))
                sent += 8
                await until(lambda expected=sent: len(seen) >= expected)
                assert sent < 4000, "the second processor never got a partition"
        assert sorted(ids(seen)) == sorted(f"r{number}" for number in range(sent))

    async def test_one_bad_record_spoils_only_itself(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()

        async def handler(records: Sequence[Record]) -> Sequence[Outcome]:
            if any(record.key == b"bad" for record in records):
                raise RuntimeError("a bug")
            return await world.answer_all(records)

        async with world.following(bus, world.output, topics.DEAD_LETTER) as seen:
            await world.submit(bus, "good-1", "bad", "good-2", partition=0)
            async with running(bus.process(world.subscription(), handler)):
                await until(lambda: len(seen) >= 3)
        assert sorted(ids([record for record in seen if record.topic == world.output])) == ["good-1", "good-2"]
        (letter,) = [record for record in seen if record.topic == topics.DEAD_LETTER]
        assert letter.header("coe-dlt-reason") == "internal"

    async def test_a_poison_message_becomes_a_dead_letter_as_it_was(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()

        async def handler(records: Sequence[Record]) -> Sequence[Outcome]:
            outcomes = []
            for record in records:
                try:
                    outcomes.append(world.answer(record))
                except UndecodableMessage as error:
                    outcomes.append(error_outcome(record, None, error))
            return outcomes

        async with world.following(bus, world.output, topics.DEAD_LETTER) as seen:
            await world.cluster.produce(world.input, b"k", b"\xff\x00poison", [("x", b"1"), ("x", b"2")])
            await world.submit(bus, "good")
            async with running(bus.process(world.subscription(), handler)):
                await until(lambda: len(seen) >= 2)
        (letter,) = [record for record in seen if record.topic == topics.DEAD_LETTER]
        assert (letter.key, letter.value) == (b"k", b"\xff\x00poison")
        assert [value for name, value in letter.headers if name == "x"] == [b"1", b"2"]
        assert letter.header("coe-dlt-reason") == "undecodable_message"
        assert letter.header("coe-dlt-original-topic") == world.input
        assert letter.header("coe-dlt-original-offset") is not None
        assert letter.header("coe-dlt-attempts") == "1"

    async def test_json_and_protobuf_are_the_same_message(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        body = events_pb2.PromptSubmitted(request_id="a", prompt="Grüße").SerializeToString()
        async with world.following(bus, world.input) as seen:
            await world.cluster.produce(
                world.input,
                b"a",
                '{"requestId": "a", "prompt": "Grüße", "later": 1}'.encode(),
                [("content-type", b"application/json; charset=utf-8")],
            )
            await world.cluster.produce(world.input, b"a", body)
            await until(lambda: len(seen) == 2)
        first, second = (decode(record, events_pb2.PromptSubmitted) for record in seen)
        assert first == second

    async def test_headers_tell_event_and_deadline_on_every_hop(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        async with world.following(bus) as seen, running(bus.process(world.subscription(), world.answer_all)):
            headers = [("coe-deadline-ms", b"99"), ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00")]
            await world.cluster.produce(world.input, b"r", b"\n\x01r", headers)
            await until(lambda: len(seen) == 1)
        record = seen[0]
        assert record.header("ce_specversion") == "1.0"
        assert record.header("ce_type") == "ai.coe.prompt.completed.v1"
        assert record.header("ce_id")
        assert record.header("content-type") == "application/protobuf"
        assert record.header("coe-deadline-ms") == "99"
        assert (record.header("traceparent") or "").startswith("00-" + "a" * 32)

    async def test_records_end_in_any_order_and_none_comes_again(self, world: World) -> None:
        await world.create(partitions=1)
        bus = await world.cluster.bus()
        await world.submit(bus, "a", "b", "c", "d")
        async with world.following(bus) as seen:
            async with bus.parallel(world.subscription()) as consumer:
                a, b, c, d = await take(consumer, 4)
                assert [consumer.attempt(record) for record in (a, b, c, d)] == [0, 0, 0, 0]
                assert await consumer.complete(d, world.answer(d))
                assert await consumer.complete(b, world.answer(b))
                assert not consumer.revoked(a)
            # The first consumer is gone with two records under way.
            assert not await consumer.complete(a, world.answer(a))
            async with bus.parallel(world.subscription()) as heir:
                await world.submit(bus, "e")
                again = await take(heir, 3)
                assert ids(again) == ["a", "c", "e"]
                assert [heir.attempt(record) for record in again] == [1, 1, 0]
                for record in again:
                    assert await heir.complete(record, world.answer(record))
            await until(lambda: len(seen) >= 5)
        assert sorted(ids(seen)) == ["a", "b", "c", "d", "e"]

    async def test_a_record_is_completed_once(self, world: World) -> None:
        await world.create(partitions=1)
        bus = await world.cluster.bus()
        await world.submit(bus, "a")
        async with bus.parallel(world.subscription()) as consumer:
            (record,) = await take(consumer, 1)
            assert await consumer.complete(record, world.answer(record))
            assert not await consumer.complete(record, world.answer(record))
            assert consumer.revoked(record)

    async def test_no_more_than_max_in_flight_is_handed_out(self, world: World) -> None:
        await world.create(partitions=2)
        bus = await world.cluster.bus()
        await world.submit(bus, *(f"r{number}" for number in range(12)))
        held: list[Record] = []
        most = 0

        async def consume(consumer: ParallelConsumer) -> None:
            async for record in consumer:
                held.append(record)

        async with bus.parallel(world.subscription(max_in_flight=3)) as consumer, running(consume(consumer)):
            for _ in range(12):
                await until(lambda: len(held) >= 1)
                most = max(most, len(held))
                assert await consumer.complete(held[0], world.answer(held[0]))
                del held[0]
        assert most <= 3

    async def test_a_partition_gives_out_no_more_than_its_ledger_holds(self, world: World) -> None:
        await world.create(partitions=1)
        bus = await world.cluster.bus()
        names = [f"r{number}" for number in range(MAX_IN_FLIGHT + 30)]
        for name in names:
            await bus.publisher.post(Outgoing(world.input, name, events_pb2.PromptSubmitted(request_id=name)))
        async with bus.parallel(world.subscription(max_in_flight=1000)) as consumer:
            first = await take(consumer, MAX_IN_FLIGHT)
            rest = asyncio.ensure_future(take(consumer, 30))
            # The oldest stays under way: what is taken is bounded all the same.
            assert all(await asyncio.gather(*(consumer.complete(one, Outcome()) for one in first[1:])))
            assert ids(first + await rest) == names

    async def test_work_under_way_survives_a_rebalance_exactly_once(self, world: World) -> None:
        await world.create(partitions=4)
        first, second = await world.cluster.bus(), await world.cluster.bus()
        for partition in range(4):
            await world.submit(first, f"r{partition}", partition=partition)
        async with AsyncExitStack() as stack:
            seen = await stack.enter_async_context(world.following(first))
            one = await stack.enter_async_context(first.parallel(world.subscription()))
            held = await take(one, 4)
            pump = asyncio.ensure_future(take(one, 100))
            two = await stack.enter_async_context(second.parallel(world.subscription()))
            # The second member gets some of the partitions, and with them their records under way.
            moved = await take(two, 1)
            await until(lambda: any(one.revoked(record) for record in held))
            assert two.attempt(moved[0]) == 1
            results = [await one.complete(record, world.answer(record)) for record in held]
            assert not results[[record.partition for record in held].index(moved[0].partition)]
            missing = results.count(False) - 1
            moved += await take(two, missing) if missing else []
            for record in moved:
                assert await two.complete(record, world.answer(record))
            await until(lambda: len(seen) >= 4)
            pump.cancel()
        assert sorted(ids(seen)) == ["r0", "r1", "r2", "r3"]

    async def test_an_error_outcome_ends_a_record(self, world: World) -> None:
        await world.create(partitions=1)
        bus = await world.cluster.bus()
        await world.submit(bus, "a")
        async with world.following(bus, topics.DEAD_LETTER) as seen:
            async with bus.parallel(world.subscription()) as consumer:
                (record,) = await take(consumer, 1)
                assert await consumer.complete(record, Outcome(dead_letter=InvalidPrompt("no")))
            await until(lambda: any(letter.header("coe-dlt-original-topic") == world.input for letter in seen))

    async def test_a_tail_starts_at_the_end(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        await world.submit(bus, "before")
        async with world.following(bus, world.input) as seen:
            await world.submit(bus, *(f"after-{number}" for number in range(10)))
            await until(lambda: len(seen) >= 10)
        assert sorted(ids(seen)) == [f"after-{number}" for number in range(10)]

    async def test_posted_messages_arrive(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        async with world.following(bus, world.input) as seen:
            for number in range(20):
                message = events_pb2.PromptSubmitted(request_id=str(number))
                await bus.publisher.post(Outgoing(world.input, "same-key", message))
            await until(lambda: len(seen) >= 20)
        numbers = [decode(record, events_pb2.PromptSubmitted).request_id for record in seen]
        assert numbers == [str(number) for number in range(20)]

    async def test_a_running_broker_is_healthy(self, world: World) -> None:
        await world.create()
        assert await (await world.cluster.bus()).healthy()
