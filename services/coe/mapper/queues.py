"""How many prompts wait for each expert: read in the background, so that no prompt waits for Redis."""

import asyncio
from collections import Counter
from typing import Protocol

from coe.platform.residency import ClusterView

PERIOD_S = 0.2


class Reader(Protocol):
    async def snapshot(self) -> ClusterView: ...

    async def close(self) -> None: ...


class QueueDepths:
    """Owns the reader. Without Redis every queue counts as empty."""

    def __init__(self, reader: Reader, period_s: float = PERIOD_S) -> None:
        self._reader = reader
        self._period_s = period_s
        self._depths: Counter[str] = Counter()

    def queued(self, expert_id: str) -> int:
        """Prompts waiting or running for this bundle, over all workers."""
        return self._depths[expert_id]

    async def follow(self) -> None:
        """Runs until cancelled."""
        while True:
            self._depths = total_depths(await self._reader.snapshot())
            await asyncio.sleep(self._period_s)

    async def close(self) -> None:
        await self._reader.close()


def total_depths(view: ClusterView) -> Counter[str]:
    """Expert to prompts, summed over workers. Pure."""
    depths: Counter[str] = Counter()
    for node in view.nodes.values():
        for queue in node.queues.values():
            depths.update(queue)
    return depths
