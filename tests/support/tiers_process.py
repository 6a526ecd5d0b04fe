"""A memory-tier manager as its own process, with small experts, and workers as processes that can be killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0

WORKER = """
import asyncio, json, os, sys
import grpc.aio
from coe._proto import memory_tier_manager_pb2 as pb, memory_tier_manager_pb2_grpc as rpc
from coe.native import HbmArena
from coe.platform.pid_space import pid_space

async def main(address, worker, experts):
    async with grpc.aio.insecure_channel(address) as channel:
        manager = rpc.MemoryTierManagerStub(channel)
        attach = manager.Attach(pb.AttachRequest(worker_id=worker, pid=os.getpid(), pid_space=pid_space()))
        attached = await attach.read()
        arena = HbmArena.attach(attached.arena)
        leases = []
        for expert in experts:
            request = pb.AcquireRequest(worker_id=worker, expert_id=expert, wait_until_resident=True)
            lease = (await manager.Acquire(request, timeout=30)).lease
            info = arena.slot(lease.slot)
            leases.append([lease.slot, lease.generation, info.generation, info.state.name])
        print(json.dumps(leases), flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
"""


@dataclass(frozen=True)
class TiersProcess:
    process: subprocess.Popen[bytes]
    address: str
    log: Path


@contextmanager
def tiers_process(home: Path, **settings: object) -> Iterator[TiersProcess]:
    """`settings`: of COE_TIERS_*, COE_* when their name starts with `coe_`. Ends the process with SIGTERM."""
    ready = home / "tiers.ready"
    ready.unlink(missing_ok=True)
    log = home / "tiers.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COE_")}
    named = {
        (name if name.startswith("coe_") else f"coe_tiers_{name}").upper(): str(value)
        for name, value in settings.items()
    }
    base = {"COE_HOME": str(home), "COE_GRPC_READY_FILE": str(ready), "COE_PARENT_PID": str(os.getpid())}
    with log.open("ab") as output:
        command = [sys.executable, "-m", "coe.memory_tier_manager.service"]
        process = subprocess.Popen(command, env={**kept, **base, **named}, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while not ready.exists():
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.02)
        yield TiersProcess(process, ready.read_text().strip(), log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


@contextmanager
def worker_process(
    address: str, worker: str, *experts: str, enter: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], list[list]]]:
    """A process that attaches, leases the experts and holds them. Yields it and [slot, generation, slot's, state]s.

    `enter`: a command that runs it elsewhere.
    """
    command = [*enter, sys.executable, "-c", WORKER, address, worker, *experts]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the worker did not get its leases"
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
