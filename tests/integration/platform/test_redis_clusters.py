"""Residency over a real cluster of three servers, and over a master that sentinels replace."""

from pathlib import Path

import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe.platform.errors import ArtifactError
from coe.platform.residency import ResidencyPublisher, ResidencyReader
from coe.platform.residency.connection import connect
from support import redis_clusters
from support.deadlines import until

pytestmark = pytest.mark.valkey


def expert(name: str) -> pb.ExpertResidency:
    return pb.ExpertResidency(expert_id=name, tier=pb.TIER_HBM, state=pb.RESIDENCY_STATE_RESIDENT, bytes=1)


async def seen(reader: ResidencyReader, nodes: set[str], experts: int) -> None:
    async def all_there() -> bool:
        view = await reader.snapshot()
        return set(view.nodes) == nodes and all(len(node.experts) == experts for node in view.nodes.values())

    await until(all_there)


async def test_a_cluster_of_three(tmp_path: Path) -> None:
    async with redis_clusters.cluster(tmp_path) as group:
        reader = ResidencyReader(group.url, max_age_s=0)
        async with ResidencyPublisher(group.url, "a", 1) as a, ResidencyPublisher(group.url, "b", 1) as b:
            # Hash tags put a node's keys together and nodes apart: a transaction never spans two servers.
            for publisher, worker in ((a, "worker-a"), (b, "worker-b")):
                publisher.publish(expert("x"), expert("y"))
                publisher.publish_queue(worker, {"x": 2})
            await seen(reader, {"a", "b"}, 2)

            async def queues_are_there() -> bool:
                view = await reader.snapshot()
                return dict(view.nodes["a"].queues) == {"worker-a": {"x": 2}}

            await until(queues_are_there)
            # Without replicas a lost server loses its slots; the view is then partial or empty, and never an error.
            await group.servers[0].stop()
            await reader.snapshot()
            for publisher in (a, b):
                publisher.publish(expert("z"))
            await group.servers[0].start()
            await seen(reader, {"a", "b"}, 3)
        await reader.close()


async def test_a_failover_by_sentinels(tmp_path: Path) -> None:
    async with redis_clusters.sentinels(tmp_path) as group:
        reader = ResidencyReader(group.url, max_age_s=0)
        async with ResidencyPublisher(group.url, "a", 1) as publisher:
            publisher.publish(expert("x"))
            await seen(reader, {"a"}, 1)
            await group.servers[0].stop()
            publisher.publish(expert("y"))
            await seen(reader, {"a"}, 2)
        await reader.close()


@pytest.mark.parametrize("url", ["redis+other://h", "redis+sentinel://h:1", "redis+cluster://h:port"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ArtifactError):
        connect(url)
