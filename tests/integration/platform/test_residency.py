"""Residency over a real Redis-protocol server, which may lose everything or be away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis.asyncio

from coe._proto import memory_tier_manager_pb2 as pb
from coe.local.valkey import ValkeyServer
from coe.platform.residency import ClusterView, ResidencyPublisher, ResidencyReader

pytestmark = pytest.mark.valkey


def expert(name: str, tier: pb.Tier = pb.TIER_HBM) -> pb.ExpertResidency:
    return pb.ExpertResidency(expert_id=name, tier=tier, state=pb.RESIDENCY_STATE_RESIDENT, bytes=1)


async def until(reader: ResidencyReader, condition: Callable[[ClusterView], bool]) -> ClusterView:
    async with asyncio.timeout(20):
        while not condition(seen := await reader.snapshot()):  # noqa: ASYNC110 (Redis can't wake us)
            await asyncio.sleep(0.02)
    return seen


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[ResidencyReader]:
    client = redis.asyncio.Redis.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    reader = ResidencyReader(redis_url, max_age_s=0)
    yield reader
    await reader.close()


async def test_a_view_is_what_was_published_last(redis_url: str, reader: ResidencyReader) -> None:
    async with ResidencyPublisher(redis_url, "n", 7) as publisher:
        publisher.publish(expert("a"), expert("b"))
        publisher.publish(expert("a", pb.TIER_DDR))
        publisher.publish_usage(pb.TierUsage(tier=pb.TIER_HBM, capacity_bytes=10, used_bytes=1))
        publisher.publish_queue("w", {"a": 3, "b": 1})
        publisher.publish_queue("w", {"a": 2}, {5, 3})
        view = await until(reader, lambda view: "n" in view.nodes and view.nodes["n"].queues == {"w": {"a": 2}})
        node = view.nodes["n"]
        assert node.epoch == 7
        assert {name: one.tier for name, one in node.experts.items()} == {"a": pb.TIER_DDR, "b": pb.TIER_HBM}
        assert node.usage[pb.TIER_HBM].capacity_bytes == 10
        assert node.claims["w"].partitions == (3, 5)
    assert (await reader.snapshot()).nodes == {}, "who left is not seen"


async def test_an_older_life_of_a_node_is_ignored(redis_url: str, reader: ResidencyReader) -> None:
    async with ResidencyPublisher(redis_url, "n", 2) as new, ResidencyPublisher(redis_url, "n", 1) as old:
        new.publish(expert("new"))
        await until(reader, lambda view: "n" in view.nodes)
        old.publish(expert("old"))
        old.publish_queue("marker", {"x": 1})
        view = await until(reader, lambda view: "marker" in view.nodes["n"].queues)
        assert set(view.nodes["n"].experts) == {"new"}


async def test_a_life_that_began_by_a_clock_set_back_is_seen_once_the_one_before_is_gone(
    redis_url: str, reader: ResidencyReader
) -> None:
    async with ResidencyPublisher(redis_url, "n", 2) as before:
        before.publish(expert("before"))
        await until(reader, lambda view: "n" in view.nodes)
    async with ResidencyPublisher(redis_url, "n", 1) as publisher:
        publisher.publish(expert("now"))
        view = await until(reader, lambda view: "n" in view.nodes)
        assert set(view.nodes["n"].experts) == {"now"}


async def test_lost_data_is_published_again(redis_url: str, reader: ResidencyReader) -> None:
    async with ResidencyPublisher(redis_url, "n", 1) as publisher, redis.asyncio.Redis.from_url(redis_url) as client:
        publisher.publish(expert("a"))
        await until(reader, lambda view: "n" in view.nodes)
        await client.flushall()
        publisher.publish(expert("b"))
        view = await until(reader, lambda view: "n" in view.nodes and len(view.nodes["n"].experts) == 2)
        assert set(view.nodes["n"].experts) == {"a", "b"}


async def test_without_the_server_there_is_an_empty_view_and_later_all_is_back(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    reader = ResidencyReader(server.url, max_age_s=0)
    async with ResidencyPublisher(server.url, "n", 1) as publisher:
        publisher.publish(expert("a"))
        assert (await reader.snapshot()).nodes == {}
        async with server:
            await until(reader, lambda view: "n" in view.nodes)
        assert (await reader.snapshot()).nodes == {}
        async with ValkeyServer(tmp_path, port=server.port):
            await until(reader, lambda view: "n" in view.nodes)
    await reader.close()


async def test_a_cancellation_ends_who_reads_whenever_it_comes(reader: ResidencyReader) -> None:
    async def read_on() -> None:
        while True:
            await reader.snapshot()

    for step in range(200):
        reading = asyncio.create_task(read_on())
        await asyncio.sleep(0.00002 * step)
        reading.cancel()
        done, _ = await asyncio.wait({reading}, timeout=20)
        assert done
        assert reading.cancelled()


async def test_a_publisher_closes_whenever_it_is_told(redis_url: str) -> None:
    for step in range(50):
        publisher = ResidencyPublisher(redis_url, "n", step)
        await publisher.start()
        publisher.publish(expert("a"))
        await asyncio.sleep(0.0001 * step)
        async with asyncio.timeout(20):
            await publisher.close()
