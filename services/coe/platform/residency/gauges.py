"""Exports published residency as metrics."""

from collections.abc import Mapping

from coe._proto import memory_tier_manager_pb2 as pb
from coe.platform.telemetry import names, registry


class Gauges:
    """Gauges of the tiers and queues as last published."""

    def __init__(self) -> None:
        self._queued: dict[str, set[str]] = {}

    def tier(self, usage: pb.TierUsage) -> None:
        attributes = {names.COE_TIER: pb.Tier.Name(usage.tier).removeprefix("TIER_").lower()}
        registry.gauge("coe.tier.capacity").set(usage.capacity_bytes, attributes)
        registry.gauge("coe.tier.used").set(usage.used_bytes, attributes)
        registry.gauge("coe.tier.loaded").set(usage.bytes_in, attributes)

    def queue(self, worker: str, depths: Mapping[str, int]) -> None:
        """Sets the depths of a worker's queues. Experts that are no longer listed get depth 0."""
        emptied = self._queued.get(worker, set()) - depths.keys()
        self._queued[worker] = set(depths)
        for expert, depth in [*depths.items(), *((expert, 0) for expert in emptied)]:
            registry.gauge("coe.queue.depth").set(depth, {names.COE_WORKER: worker, names.COE_EXPERT: expert})
