"""The bus contract: publishing and following."""

from coe._proto import events_pb2
from coe.platform.bus.api import Outgoing
from coe.platform.bus.codec import decode
from contract.bus_world import World, ids, until


class DeliverySuite:
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
