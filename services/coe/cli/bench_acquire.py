"""`coe bench acquire`: a lease on a resident expert over gRPC on this host, and what the manager spends on it."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.cli.bench_tiers import manager, replicas
from coe.cli.console import out, print_json
from coe.platform.rpc.client import channel

WARM_UP = 100


async def run(acquires: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        (expert,) = replicas(Path(folder), 1)
        with manager(Path(folder), hbm_bytes=256 << 20) as address:
            process = psutil.Process().children()[-1]
            async with channel(address) as connection:
                stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
                attach = stub.Attach(pb.AttachRequest(worker_id="bench", pid=os.getpid()))
                await attach.read()
                await _pairs(stub, expert, WARM_UP)
                before = process.cpu_times()
                seconds = await _pairs(stub, expert, acquires)
                after = process.cpu_times()
                attach.cancel()
    cpu_s = after.user + after.system - before.user - before.system
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e6
    report: dict[str, object] = {
        "bench": "acquire",
        "p50_us": float(p50),
        "p99_us": float(p99),
        "manager_cpu_us": cpu_s / acquires * 1e6,
    }
    if as_json:
        print_json(report)
    else:
        out.print(f"acquire p50 {p50:.0f} us, p99 {p99:.0f} us; manager {report['manager_cpu_us']:.0f} us CPU a lease")


async def _pairs(
    stub: "memory_tier_manager_pb2_grpc.MemoryTierManagerAsyncStub", expert: str, count: int
) -> list[float]:
    """Seconds of each Acquire; its Release follows untimed."""
    request = pb.AcquireRequest(worker_id="bench", expert_id=expert, wait_until_resident=True)
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        response = await stub.Acquire(request)
        seconds.append(time.perf_counter() - began)
        await stub.Release(pb.ReleaseRequest(worker_id="bench", lease_id=response.lease.lease_id))
    return seconds
