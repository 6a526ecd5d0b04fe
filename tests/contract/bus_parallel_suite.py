"""The bus contract: long work that ends in any order."""

import asyncio
from contextlib import AsyncExitStack

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Bus, Outcome, Outgoing, ParallelConsumer, Record
from coe.platform.bus.ledger import MAX_IN_FLIGHT
from coe.platform.errors import InvalidPrompt
from contract.bus_world import PATIENCE_S, World, ids, running, take, until


class ParallelSuite:
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

    async def test_who_has_a_record_next_counts_a_hand_out_that_was_said_to_be_counted(self, world: World) -> None:
        await world.create(partitions=1)
        bus = await world.cluster.bus()
        await world.submit(bus, "a")
        async with bus.parallel(world.subscription()) as consumer:
            (record,) = await take(consumer, 1)
            async with asyncio.timeout(PATIENCE_S):
                if (counted := consumer.counted(record)) is not None:
                    await counted
            assert consumer.counted(record) is None
        async with bus.parallel(world.subscription()) as heir:
            (again,) = await take(heir, 1)
            assert heir.attempt(again) == 1

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
            assert sorted(one.partitions) == [0, 1, 2, 3]
            pump = asyncio.ensure_future(take(one, 100))
            two = await stack.enter_async_context(second.parallel(world.subscription()))
            # The second member gets some of the partitions, and with them their records under way.
            moved = await take(two, 1)
            await until(lambda: any(one.revoked(record) for record in held))
            assert sorted([*one.partitions, *two.partitions]) == [0, 1, 2, 3]
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

    async def test_a_member_that_comes_or_goes_moves_only_its_share(self, world: World) -> None:
        await world.create(partitions=12)
        buses = [await world.cluster.bus() for _ in range(3)]
        for partition in range(12):
            await world.submit(buses[0], f"r{partition}", partition=partition)
        async with AsyncExitStack() as stack:
            consumers: list[ParallelConsumer] = []
            held: dict[str, Record] = {}

            async def join(bus: Bus) -> ParallelConsumer:
                consumer = await stack.enter_async_context(bus.parallel(world.subscription()))
                consumers.append(consumer)

                async def pump() -> None:
                    async for record in consumer:
                        held[ids([record])[0]] = record

                await stack.enter_async_context(running(pump()))
                return consumer

            def owners() -> dict[int, ParallelConsumer]:
                return {partition: consumer for consumer in consumers for partition in consumer.partitions}

            async def settled(*sizes: int) -> dict[int, ParallelConsumer]:
                await until(lambda: sorted(len(one.partitions) for one in consumers) == sorted(sizes))
                await until(lambda: len(owners()) == 12)
                return owners()

            await join(buses[0])
            await until(lambda: len(held) == 12)
            one = await settled(12)
            await join(buses[1])
            two = await settled(6, 6)
            # What goes on is not touched: the work under way in it least of all.
            kept = {f"r{partition}": held[f"r{partition}"] for partition in two if one[partition] is two[partition]}
            assert len(kept) == 6
            assert not any(consumers[0].revoked(record) for record in kept.values())
            third = await join(buses[2])
            three = await settled(4, 4, 4)
            assert sum(two[partition] is not three[partition] for partition in range(12)) == 4
            assert all(three[partition] is third for partition in range(12) if two[partition] is not three[partition])
            still = [record for name, record in kept.items() if three[int(name[1:])] is consumers[0]]
            assert len(still) == 4
            for record in still:
                assert await consumers[0].complete(record, world.answer(record))

    async def test_an_error_outcome_ends_a_record(self, world: World) -> None:
        await world.create(partitions=1)
        bus = await world.cluster.bus()
        await world.submit(bus, "a")
        async with world.following(bus, topics.DEAD_LETTER) as seen:
            async with bus.parallel(world.subscription()) as consumer:
                (record,) = await take(consumer, 1)
                assert await consumer.complete(record, Outcome(dead_letter=InvalidPrompt("no")))
            await until(lambda: any(letter.header("coe-dlt-original-topic") == world.input for letter in seen))
