"""One request id is one prompt: a real router on a real broker, with a real Redis that comes and goes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.partitioner import DefaultPartitioner

from coe._proto import events_pb2
from coe.local.valkey import ValkeyServer
from coe.platform import topics
from coe.platform.bus.api import Outgoing, Record
from coe.platform.bus.kafka import KafkaBus
from coe.platform.settings import CoreSettings
from coe.router.duplicates import Duplicates
from coe.router.service import RouterService
from coe.router.settings import RouterSettings
from support import redis_clusters
from support.deadlines import until

pytestmark = pytest.mark.valkey
WAIT_S = 60.0


def record(offset: int, partition: int = 0) -> Record:
    return Record(topics.PROMPTS, partition, offset, None, b"", (), 0)


@asynccontextmanager
async def router(bootstrap: str, redis_url: str, home: Path, seconds: float = 600.0) -> AsyncIterator[None]:
    core = CoreSettings(home=home, redis_url=redis_url)
    settings = RouterSettings(fixed_category="math", allow_fixed=True, duplicates_s=seconds)
    service = RouterService(core, settings, KafkaBus(bootstrap, source="coe/router", start_timeout_s=30))
    await service.start()
    loops = [asyncio.ensure_future(loop) for loop in service.tasks()]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await service.stop()


@asynccontextmanager
async def client(bootstrap: str) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(bootstrap, source="coe/test", start_timeout_s=30)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


def new_id() -> str:
    """All lie in one partition of every topic, so that what comes of the last comes last."""
    partitions = list(range(8))
    while True:
        name = uuid4().hex
        if DefaultPartitioner()(name.encode(), partitions, partitions) == 0:
            return name


async def submit(bus: KafkaBus, *names: str) -> None:
    for name in names:
        prompt = events_pb2.PromptSubmitted(request_id=name, prompt="x")
        await bus.publisher.publish(Outgoing(topics.PROMPTS, name, prompt))


async def until_routed(records: AsyncIterator[Record], last: str) -> Counter[str]:
    """How often each id was routed, until `last` is."""
    found: Counter[str] = Counter()
    async for one in records:
        name = events_pb2.PromptRouted.FromString(one.value).prompt.request_id
        found[name] += 1
        if name == last:
            return found
    raise AssertionError("the topic ended")


@pytest.mark.kafka
async def test_a_producer_that_submits_again_gets_one_answer(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path
) -> None:
    first, second, third, last = (new_id() for _ in range(4))
    async with client(kafka_bootstrap) as bus, asyncio.timeout(WAIT_S), bus.tail([topics.ROUTED]) as records:
        # Before the router runs: in one batch. And while it runs, and by another router.
        await submit(bus, first, first, second)
        async with router(kafka_bootstrap, redis_url, tmp_path):
            found = await until_routed(records, second)
            await submit(bus, second, first, third)
            found += await until_routed(records, third)
        async with router(kafka_bootstrap, redis_url, tmp_path):
            await submit(bus, first)
            await submit(bus, second, third, last)
            found += await until_routed(records, last)
    assert [found[name] for name in (first, second, third, last)] == [1, 1, 1, 1]


@pytest.mark.kafka
async def test_a_record_that_comes_again_is_answered(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    """What a router met and did not commit, because it died, is no duplicate for the next one."""
    name = new_id()
    async with client(kafka_bootstrap) as bus, asyncio.timeout(WAIT_S), bus.tail([topics.ROUTED]) as routed:
        async with bus.tail([topics.PROMPTS]) as records:
            await submit(bus, name)
            met = await anext(records)
        died = Duplicates(redis_url, ttl_s=600)
        assert await died.find([(name, met)]) == [False]
        await died.close()
        async with router(kafka_bootstrap, redis_url, tmp_path):
            assert (await until_routed(routed, name))[name] == 1


@pytest.mark.kafka
async def test_zero_seconds_switch_it_off(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    name, last = new_id(), new_id()
    async with (
        client(kafka_bootstrap) as bus,
        asyncio.timeout(WAIT_S),
        bus.tail([topics.ROUTED]) as records,
        router(kafka_bootstrap, redis_url, tmp_path, seconds=0),
    ):
        await submit(bus, name, name, last)
        assert (await until_routed(records, last))[name] == 2


async def test_without_redis_nothing_waits_and_nothing_is_a_duplicate(tmp_path: Path) -> None:
    now = 0.0
    async with ValkeyServer(tmp_path) as server:
        duplicates = Duplicates(server.url, ttl_s=600, clock=lambda: now)
        assert await duplicates.find([("a", record(1)), ("a", record(2)), ("b", record(3))]) == [False, True, False]
        await server.stop()
        assert await duplicates.find([("a", record(4))]) == [False]
        await server.start()
        # Not asked again at once.
        assert await duplicates.find([("c", record(5))]) == [False]
        now = 60.0
        assert await duplicates.find([("c", record(6)), ("c", record(7))]) == [False, True]
        await duplicates.close()


async def test_an_id_is_forgotten_after_its_time(redis_url: str) -> None:
    name = uuid4().hex
    duplicates = Duplicates(redis_url, ttl_s=0.05)
    assert await duplicates.find([(name, record(1)), (name, record(2))]) == [False, True]

    async def forgotten() -> bool:
        return await duplicates.find([(name, record(2))]) == [False]

    await until(forgotten)
    await duplicates.close()


async def test_a_cluster_is_asked_server_by_server(tmp_path: Path) -> None:
    async with redis_clusters.cluster(tmp_path) as group:
        duplicates = Duplicates(group.url, ttl_s=600)
        prompts = [(f"prompt-{number}", record(number)) for number in range(64)]
        assert not any(await duplicates.find(prompts))
        assert not any(await duplicates.find(prompts))
        assert all(await duplicates.find([(name, record(one.offset + 100)) for name, one in prompts]))
        # A server that is lost takes its share of the ids along, and no prompt.
        await group.servers[0].stop()
        assert not any(await duplicates.find([("prompt-0", record(0))]))
        await duplicates.close()
