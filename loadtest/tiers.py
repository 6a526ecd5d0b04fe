"""Bytes in each memory tier during a load test, as published by the memory-tier managers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from coe._proto import memory_tier_manager_pb2 as pb
from coe.platform.residency import ResidencyReader

_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class TierPoint:
    """Totals over all nodes. `at_s` is measured from the start of the run; tiers are named hbm and ddr."""

    at_s: float
    used: dict[str, int]
    capacity: dict[str, int]


@asynccontextmanager
async def watched(redis_url: str) -> AsyncIterator[list[TierPoint]]:
    """Yields a list that fills while the block runs. It stays empty if Redis is unreachable or not configured."""
    points: list[TierPoint] = []
    if not redis_url:
        yield points
        return
    reader = ResidencyReader(redis_url)
    ended = asyncio.Event()
    watching = asyncio.create_task(_watch(reader, points, ended))
    try:
        yield points
    finally:
        # Not cancelled, because a read that is just finishing may swallow the cancellation and the run would hang.
        ended.set()
        await asyncio.gather(watching, return_exceptions=True)
        await reader.close()


async def _watch(reader: ResidencyReader, points: list[TierPoint], ended: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not ended.is_set():
        view = await reader.snapshot()
        used: dict[str, int] = {}
        capacity: dict[str, int] = {}
        for node in view.nodes.values():
            for usage in node.usage.values():
                name = pb.Tier.Name(usage.tier).removeprefix("TIER_").lower()
                used[name] = used.get(name, 0) + usage.used_bytes
                capacity[name] = capacity.get(name, 0) + usage.capacity_bytes
        if used:
            points.append(TierPoint(loop.time() - start, used, capacity))
        with suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_S):
                await ended.wait()
