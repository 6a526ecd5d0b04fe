"""`coe bench acquire`: the latency of a lease on a resident expert on this host, and its cost to the manager."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import numpy as np
import psutil

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.bench.tiers import manager, replicas
from coe.cli.console import out, print_json
from coe.expert_worker.lease_socket import LeaseSocket
from coe.experts.catalogue import Catalogue
from coe.platform.rpc.client import channel

WARM_UP = 100
# The rate at which the manager's share of a core is measured.
RATE = 200.0

Pair = Callable[[], Awaitable[float]]


async def run(acquires: int, seconds: float, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        (expert,) = replicas(Path(folder), 1)
        # As in requests of workers, which name the weights.
        weights = Catalogue(Path(folder) / "experts").get(expert).weights_tag
        wish = pb.AcquireRequest(worker_id="bench", expert_id=expert, weights=weights, wait_until_resident=True)
        with manager(Path(folder), hbm_bytes=256 << 20) as address:
            manager_pid = psutil.Process().children()[-1].pid
            async with channel(address) as connection:
                stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
                attach = stub.Attach(pb.AttachRequest(worker_id="bench", pid=os.getpid()))
                attached = cast("pb.AttachResponse", await attach.read())
                socket = await LeaseSocket.connect(attached.lease_socket)
                report: dict[str, object] = {"bench": "acquire"}
                ways = {"socket": over_socket(socket, wish), "grpc": over_grpc(stub, wish)}
                for name, pair in ways.items():
                    report[name] = await measure(pair, acquires, seconds, manager_pid)
                socket.close()
                attach.cancel()
    if as_json:
        print_json(report)
        return
    for name in ways:
        figures = report[name]
        assert isinstance(figures, dict)
        out.print(
            f"{name}: acquire p50 {figures['p50_us']:.0f} us, p99 {figures['p99_us']:.0f} us; manager "
            f"{figures['manager_cpu_us']:.0f} us of CPU each, "
            f"{figures['manager_cpu_share'] * 100:.1f} % of a core at {RATE:.0f} acquires/s"
        )


async def measure(pair: Pair, acquires: int, seconds: float, manager_pid: int) -> dict[str, float]:
    """Measures back-to-back acquires and their CPU cost to the manager, then its share of a core at RATE."""
    for _ in range(WARM_UP):
        await pair()
    cpu_s = _cpu_s(manager_pid)
    p50, p99 = np.percentile([await pair() for _ in range(acquires)], (50, 99)) * 1e6
    each_us = (_cpu_s(manager_pid) - cpu_s) / acquires * 1e6
    cpu_s = _cpu_s(manager_pid)
    began = time.perf_counter()
    for number in range(int(seconds * RATE)):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        await pair()
    share = (_cpu_s(manager_pid) - cpu_s) / (time.perf_counter() - began)
    return {"p50_us": float(p50), "p99_us": float(p99), "manager_cpu_us": each_us, "manager_cpu_share": share}


def over_socket(socket: LeaseSocket, wish: pb.AcquireRequest) -> Pair:
    """Times an acquire sent together with the release of the previous lease, as a worker does between batches."""
    held = 0

    async def pair() -> float:
        nonlocal held
        began = time.perf_counter()
        if held:
            socket.release(pb.ReleaseRequest(worker_id="bench", lease_id=held))
        held = (await socket.acquire(wish, 30.0)).lease.lease_id
        return time.perf_counter() - began

    return pair


def over_grpc(stub: "memory_tier_manager_pb2_grpc.MemoryTierManagerAsyncStub", wish: pb.AcquireRequest) -> Pair:
    """The same over gRPC. The release is still in flight when the acquire is sent."""
    held = 0
    releasing: Awaitable[pb.ReleaseResponse] | None = None

    async def pair() -> float:
        nonlocal held, releasing
        began = time.perf_counter()
        if held:
            releasing = stub.Release(pb.ReleaseRequest(worker_id="bench", lease_id=held))
        held = (await stub.Acquire(wish)).lease.lease_id
        taken = time.perf_counter() - began
        if releasing is not None:
            await releasing
        return taken

    return pair


def _cpu_s(pid: int) -> float:
    """CPU seconds of all its threads, to the nanosecond; psutil has a resolution of 10 ms."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
