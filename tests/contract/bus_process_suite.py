"""The bus contract: cheap work in transactions."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from coe.platform import topics
from coe.platform.bus.api import Outcome, Record
from contract.bus_world import World, ids, running, until


class ProcessSuite:
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
