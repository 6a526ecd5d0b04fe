"""First layers kept in HBM, with real weights: they come back from there, and only the rest over the link."""

import asyncio
import uuid
from pathlib import Path

import grpc.aio
import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.experts.bundle import Bundle
from support.tiers_process import tiers_process
from support.worker_node import replicas

WAIT_S = 60.0
CHUNK = 4 << 20

pytestmark = pytest.mark.model


async def test_the_rest_alone_is_loaded(smollm2_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "experts").symlink_to(smollm2_bundle.path.parent)
    whole = smollm2_bundle.weights_bytes
    part = whole // 4 // CHUNK * CHUNK
    settings = {"arena": f"coe-test-{uuid.uuid4().hex[:8]}", "hbm_bytes": whole * 5 // 2, "part_share": 0.25}
    first, second, third = replicas(smollm2_bundle, 3)
    with tiers_process(tmp_path, coe_redis_url="redis://127.0.0.1:1/0", **settings) as process:
        async with grpc.aio.insecure_channel(process.address) as channel, asyncio.timeout(WAIT_S):
            manager = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(channel)
            attach = manager.Attach(pb.AttachRequest(worker_id="w"))
            await attach.read()

            async def use(expert: str) -> None:
                request = pb.AcquireRequest(worker_id="w", expert_id=expert, wait_until_resident=True)
                lease = (await manager.Acquire(request)).lease
                await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=lease.lease_id))

            async def loaded(wanted: int) -> None:
                """Until so many bytes went over the link."""
                while True:
                    usage = (await manager.ListResidency(pb.ListResidencyRequest())).tiers[0]
                    assert usage.bytes_in <= wanted
                    if usage.bytes_in == wanted:
                        return
                    await asyncio.sleep(0.05)

            for expert in (first, second, third):
                await use(expert)
            await loaded(3 * whole + part)
            await use(first)
            # Its rest, and then the first layers of the one that left for it.
            await loaded(4 * whole + part)
            attach.cancel()
