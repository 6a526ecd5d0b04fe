"""The mapper's view of the workers: polled in the background, so that no prompt waits for Redis."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from coe._proto import memory_tier_manager_pb2 as pb
from coe.mapper.replicas import Cluster
from coe.platform.residency import ClusterView, NodeView

PERIOD_S = 0.2
# Sanity limit: a worker that claims a higher partition is broken or belongs to another cluster.
MOST_PARTITIONS = 10_000
_COMES_OR_IS = (pb.RESIDENCY_STATE_LOADING, pb.RESIDENCY_STATE_RESIDENT)


class Reader(Protocol):
    async def snapshot(self) -> ClusterView: ...

    async def close(self) -> None: ...


class ClusterWatch:
    """Owns the reader and calls `on_change` with each view.

    While Redis is unreachable, a view holds only the number of partitions.
    """

    def __init__(self, reader: Reader, on_change: Callable[[Cluster], None], period_s: float = PERIOD_S) -> None:
        self._reader = reader
        self._on_change = on_change
        self._period_s = period_s
        self._partitions = 0

    async def follow(self) -> None:
        """Runs until cancelled."""
        while True:
            cluster = cluster_of(await self._reader.snapshot(), self._partitions)
            self._partitions = cluster.partitions
            self._on_change(cluster)
            await asyncio.sleep(self._period_s)

    async def close(self) -> None:
        await self._reader.close()


def cluster_of(view: ClusterView, partitions: int = 0) -> Cluster:
    """Condenses a view of the nodes. Pure.

    Each partition belongs to the worker that claimed it last. `partitions` is the least number of partitions to assume.
    """
    claims: dict[int, tuple[int, str]] = {}
    queued, resident = {}, {}
    for node in view.nodes.values():
        held = _held(node)
        for worker, queue in node.queues.items():
            queued[worker], resident[worker] = queue, held
        for worker, claim in node.claims.items():
            for partition in claim.partitions:
                if not 0 <= partition < MOST_PARTITIONS:
                    continue
                claims[partition] = max(claims.get(partition, (0, "")), (claim.since_ms, worker))
    owners = {partition: worker for partition, (_, worker) in claims.items()}
    return Cluster(max([partitions - 1, *owners]) + 1, owners, queued, resident)


def _held(node: NodeView) -> frozenset[str]:
    return frozenset(
        name for name, one in node.experts.items() if one.tier == pb.TIER_HBM and one.state in _COMES_OR_IS
    )
