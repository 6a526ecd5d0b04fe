"""The manager's process with the real arena, real bundles and real worker processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.experts.catalogue import Catalogue
from coe.native import HbmArena, SlotState
from coe.platform.pid_space import pid_space
from coe.platform.residency import ResidencyReader
from support.deadlines import until, until_true
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf
from support.tiers_process import TiersProcess, tiers_process, worker_process

Stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub
EXPERTS = ("tiny", "tiny@replica-1", "tiny@replica-2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    gguf = write_tiny_gguf(home / "tiny.gguf", TinyModel())
    import_gguf(gguf, home / "experts", "tiny")
    catalogue = Catalogue(home / "experts")
    for number in (1, 2):
        catalogue.replicate("tiny", number)
    return home


@pytest.fixture
def tiers(home: Path, redis_url: str) -> Iterator[TiersProcess]:
    """Room for two experts of three."""
    node = f"node-{uuid.uuid4().hex[:8]}"
    arena = f"coe-test-{uuid.uuid4().hex[:8]}"
    with tiers_process(
        home, hbm_bytes=4 << 20, arena=arena, coe_node=node, coe_redis_url=redis_url, profile="sn40l"
    ) as process:
        yield process


@pytest.fixture
async def manager(tiers: TiersProcess) -> AsyncIterator[Stub]:
    async with grpc.aio.insecure_channel(tiers.address) as channel:
        yield Stub(channel)


async def attached(manager: Stub, worker: str) -> tuple[object, pb.AttachResponse]:
    stream = manager.Attach(pb.AttachRequest(worker_id=worker))
    return stream, await stream.read()


async def leases(manager: Stub) -> dict[str, int]:
    listed = await manager.ListResidency(pb.ListResidencyRequest())
    return {expert.expert_id: expert.leases for expert in listed.experts}


async def test_acquire_release_and_what_is_seen(manager: Stub, tiers: TiersProcess, redis_url: str) -> None:
    stream, hello = await attached(manager, "w")
    request = pb.AcquireRequest(worker_id="w", expert_id="tiny", wait_until_resident=True)
    first = await manager.Acquire(request, timeout=30)
    assert first.found_in in (pb.TIER_DISK, pb.TIER_DDR)
    assert first.bytes_to_copy == Catalogue(tiers.log.parent / "experts").get("tiny").weights_bytes
    assert first.modelled_copy_s > 0
    assert first.lease.epoch == hello.epoch
    arena = HbmArena.attach(hello.arena)
    assert arena.slot(first.lease.slot).generation == first.lease.generation
    arena.close()
    again = await manager.Acquire(request, timeout=30)
    assert (again.found_in, again.bytes_to_copy) == (pb.TIER_HBM, 0)
    assert (await leases(manager))["tiny"] == 2
    for grant in (first, again):
        await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=grant.lease.lease_id))
    assert (await leases(manager))["tiny"] == 0

    reader = ResidencyReader(redis_url, max_age_s=0.0)
    deadline = time.monotonic() + 20
    while True:
        node = (await reader.snapshot()).nodes.get(hello.node)
        if node and node.experts.get("tiny") and node.experts["tiny"].tier == pb.TIER_HBM and pb.TIER_HBM in node.usage:
            break
        assert time.monotonic() < deadline, "residency did not get to Redis"
        await asyncio.sleep(0.05)
    await reader.close()
    stream.cancel()


async def test_an_expert_that_was_imported_anew_is_loaded_anew(manager: Stub, home: Path) -> None:
    """Of the very same size. Who reads its former bytes goes on; without another word about it they leave."""
    catalogue = Catalogue(home / "experts")
    former = import_gguf(write_tiny_gguf(home / "former.gguf", TinyModel(seed=1)), home / "experts", "again")
    stream, hello = await attached(manager, "w")
    request = pb.AcquireRequest(worker_id="w", expert_id="again", wait_until_resident=True)
    reading = (await manager.Acquire(request, timeout=30)).lease
    catalogue.remove("again")
    bundle = import_gguf(write_tiny_gguf(home / "new.gguf", TinyModel(seed=2)), home / "experts", "again")
    assert bundle.weights_bytes == former.weights_bytes
    lease = (await manager.Acquire(request, timeout=30)).lease
    with HbmArena.attach(hello.arena) as arena:
        assert arena.slot(lease.slot).tag == bundle.weights_tag
        assert arena.slot(reading.slot).tag == former.weights_tag
        await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=reading.lease_id))
        assert arena.slot(reading.slot).state is SlotState.FREE
        catalogue.remove("again")
        await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=lease.lease_id))
        await until_true(lambda: arena.slot(lease.slot).state is SlotState.FREE)
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await manager.Acquire(request, timeout=10)
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND
    stream.cancel()


async def test_errors_have_their_status(manager: Stub) -> None:
    stream, _ = await attached(manager, "w")
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await manager.Acquire(pb.AcquireRequest(worker_id="w", expert_id="nobody"), timeout=10)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as stranger:
        await manager.Acquire(pb.AcquireRequest(worker_id="stranger", expert_id="tiny"), timeout=10)
    assert stranger.value.code() is grpc.StatusCode.UNAVAILABLE
    stream.cancel()


async def test_a_killed_worker_frees_its_experts_for_the_other(manager: Stub, tiers: TiersProcess) -> None:
    with worker_process(tiers.address, "first", *EXPERTS[:2]) as (first, held):
        assert all(generation == slots and state == "RESIDENT" for _, generation, slots, state in held)
        stream, _ = await attached(manager, "second")
        wanted = pb.AcquireRequest(worker_id="second", expert_id=EXPERTS[2], wait_until_resident=True)
        with pytest.raises(grpc.aio.AioRpcError) as full:
            await manager.Acquire(wanted, timeout=0.5)
        assert full.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert sum((await leases(manager)).values()) == 2
        waiting = asyncio.ensure_future(manager.Acquire(wanted, timeout=30))
        first.send_signal(signal.SIGKILL)
        assert (await waiting).lease.expert_id == EXPERTS[2]
        assert sum((await leases(manager)).values()) == 1
        stream.cancel()


async def test_a_worker_of_another_pid_namespace_is_not_taken_for_a_process_of_ours(manager: Stub) -> None:
    """As in containers: its number is another process's here, whose end says nothing of it."""
    streams = {}
    for worker, space in (("elsewhere", "a-host/1"), ("old", ""), ("here", pid_space())):
        process = await asyncio.create_subprocess_exec("sleep", "60")
        stream = manager.Attach(pb.AttachRequest(worker_id=worker, pid=process.pid, pid_space=space))
        await stream.read()
        streams[worker] = (process, stream)
    await manager.Acquire(pb.AcquireRequest(worker_id="elsewhere", expert_id="tiny"), timeout=30)
    for process, _ in streams.values():
        process.kill()
        await process.wait()
    assert await streams["here"][1].read() is grpc.aio.EOF
    assert (await leases(manager))["tiny"] == 1
    for worker in ("elsewhere", "old"):
        await manager.Acquire(pb.AcquireRequest(worker_id=worker, expert_id="tiny"), timeout=30)
        streams[worker][1].cancel()


async def test_the_end_of_a_worker_in_its_own_pid_namespace_is_noticed(manager: Stub, tiers: TiersProcess) -> None:
    with worker_process(tiers.address, "contained", *EXPERTS[:1], enter=contained()) as (process, _):
        assert (await leases(manager))[EXPERTS[0]] == 1
        process.send_signal(signal.SIGKILL)
        await until(lambda: nothing_leased(manager))


def contained() -> tuple[str, ...]:
    enter = ("unshare", "--pid", "--fork", "--kill-child")
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("PID namespaces are not permitted here")
    return enter


async def nothing_leased(manager: Stub) -> bool:
    return not sum((await leases(manager)).values())


async def test_the_end_of_a_stream_ends_its_leases(manager: Stub) -> None:
    stream, _ = await attached(manager, "w")
    await manager.Acquire(pb.AcquireRequest(worker_id="w", expert_id="tiny"), timeout=30)
    stream.cancel()
    deadline = time.monotonic() + 20
    while sum((await leases(manager)).values()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_watchers_see_the_newest_state(manager: Stub) -> None:
    stream, _ = await attached(manager, "w")
    watch = manager.WatchResidency(pb.WatchResidencyRequest())
    seen = {(await watch.read()).expert.expert_id for _ in EXPERTS}
    assert seen == set(EXPERTS)
    await manager.Prefetch(pb.PrefetchRequest(expert_id=EXPERTS[1], worker_id="w", may_evict=True))
    versions = []

    async def until_resident() -> None:
        while True:
            change = await watch.read()
            versions.append(change.version)
            expert = change.expert
            if (expert.expert_id, expert.tier, expert.state) == (
                EXPERTS[1],
                pb.TIER_HBM,
                pb.RESIDENCY_STATE_RESIDENT,
            ):
                return

    await asyncio.wait_for(until_resident(), 20)
    assert versions == sorted(versions)
    watch.cancel()
    stream.cancel()


async def test_pinned_experts_stay(manager: Stub) -> None:
    stream, _ = await attached(manager, "w")
    await manager.Pin(pb.PinRequest(expert_id="tiny", pinned=True))
    for expert in EXPERTS[1:]:
        grant = await manager.Acquire(
            pb.AcquireRequest(worker_id="w", expert_id=expert, wait_until_resident=True), timeout=30
        )
        await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=grant.lease.lease_id))
    listed = await manager.ListResidency(pb.ListResidencyRequest())
    by_name = {expert.expert_id: expert for expert in listed.experts}
    assert by_name["tiny"].pinned
    assert by_name["tiny"].tier == pb.TIER_HBM
    hbm = next(tier for tier in listed.tiers if tier.tier == pb.TIER_HBM)
    assert hbm.evictions == 1
    assert hbm.used_bytes <= hbm.capacity_bytes
    stream.cancel()


async def test_an_expert_that_is_removed_while_it_is_resident_does_no_harm(tmp_path: Path) -> None:
    import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel()), tmp_path / "experts", "tiny")
    catalogue = Catalogue(tmp_path / "experts")
    catalogue.replicate("tiny", 1)
    arena = f"coe-test-{uuid.uuid4().hex[:8]}"
    with tiers_process(tmp_path, hbm_bytes=2 << 20, arena=arena, coe_redis_url="redis://127.0.0.1:1/0") as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            manager = Stub(channel)
            stream, _ = await attached(manager, "w")
            await manager.Pin(pb.PinRequest(expert_id="tiny", pinned=True))
            first = await manager.Acquire(pb.AcquireRequest(worker_id="w", expert_id="tiny"), timeout=30)
            catalogue.remove("tiny")
            assert (await leases(manager)) == {"tiny": 1, "tiny@replica-1": 0}
            await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=first.lease.lease_id))
            await manager.Pin(pb.PinRequest(expert_id="tiny", pinned=False))
            watch = manager.WatchResidency(pb.WatchResidencyRequest())
            await watch.read()
            other = pb.AcquireRequest(worker_id="w", expert_id="tiny@replica-1", wait_until_resident=True)
            await manager.Acquire(other, timeout=30)
            async with asyncio.timeout(20):
                while (change := (await watch.read()).expert).expert_id != "tiny" or change.tier == pb.TIER_HBM:
                    pass
            assert (await leases(manager))["tiny@replica-1"] == 1
            watch.cancel()
            stream.cancel()
        assert process.process.poll() is None, process.log.read_text()


async def test_weights_that_are_cut_while_they_are_mapped_end_their_load_only(tmp_path: Path) -> None:
    """They are in DDR, and out of HBM, when that happens."""
    import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel()), tmp_path / "experts", "tiny")
    import_gguf(write_tiny_gguf(tmp_path / "other.gguf", TinyModel(seed=1)), tmp_path / "experts", "other")
    bundle = Catalogue(tmp_path / "experts").get("tiny")
    arena = f"coe-test-{uuid.uuid4().hex[:8]}"
    with tiers_process(tmp_path, hbm_bytes=2 << 20, arena=arena, coe_redis_url="redis://127.0.0.1:1/0") as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            manager = Stub(channel)
            stream, _ = await attached(manager, "w")
            for expert in ("tiny", "other"):
                request = pb.AcquireRequest(worker_id="w", expert_id=expert, wait_until_resident=True)
                lease = (await manager.Acquire(request, timeout=30)).lease
                await manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=lease.lease_id))
            os.truncate(bundle.weights_path, 4096)
            codes = []
            # Who names the bytes that it means gets those; looked at, it is no bundle any more.
            for weights in (bundle.weights_tag, 0):
                broken = pb.AcquireRequest(worker_id="w", expert_id="tiny", wait_until_resident=True, weights=weights)
                with pytest.raises(grpc.aio.AioRpcError) as cut:
                    await manager.Acquire(broken, timeout=30)
                codes.append(cut.value.code())
            assert codes == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION]
            again = pb.AcquireRequest(worker_id="w", expert_id="other", wait_until_resident=True)
            assert (await manager.Acquire(again, timeout=30)).lease.expert_id == "other"
            stream.cancel()
        assert process.process.poll() is None


async def test_two_managers_do_not_share_an_arena(manager: Stub, tiers: TiersProcess, home: Path) -> None:
    _, hello = await attached(manager, "w")
    with pytest.raises(AssertionError, match="capacity"), tiers_process(home, arena=hello.arena, hbm_bytes=4 << 20):
        pass


@pytest.mark.parametrize("why", ["can't listen", "COE_TIERS_EVENT_LOG"])
def test_a_manager_that_can_not_start_leaves_no_memory_behind(home: Path, why: str) -> None:
    arena = f"coe-test-{uuid.uuid4().hex[:8]}"
    with socket.create_server(("127.0.0.1", 0)) as other:
        wrong = (
            {"event_log": home / "tiny.gguf" / "log"}
            if why == "COE_TIERS_EVENT_LOG"
            else {"coe_grpc_port": other.getsockname()[1]}
        )
        with pytest.raises(AssertionError, match=why), tiers_process(home, hbm_bytes=4 << 20, arena=arena, **wrong):
            pass
    assert not list(Path("/dev/shm").glob(f"{arena}*"))


@pytest.mark.parametrize(("hbm_bytes", "warns"), [(2 << 20, True), (4 << 20, False)])
def test_default_experts_that_do_not_fit_together_are_warned_of(home: Path, hbm_bytes: int, warns: bool) -> None:
    arena = f"coe-test-{uuid.uuid4().hex[:8]}"
    (home / "tiers.log").unlink(missing_ok=True)
    experts = json.dumps(EXPERTS[:2])
    with tiers_process(
        home, hbm_bytes=hbm_bytes, arena=arena, default_experts=experts, coe_redis_url="redis://127.0.0.1:1/0"
    ) as process:
        assert ("default experts don't all fit" in process.log.read_text()) == warns


async def test_top_and_replay_show_what_happened(home: Path) -> None:
    arena = f"coe-test-{uuid.uuid4().hex[:8]}"
    log = home / "run" / "tiers.events"
    with tiers_process(home, hbm_bytes=4 << 20, arena=arena, event_log=log, coe_redis_url="redis://127.0.0.1:1/0") as p:
        async with grpc.aio.insecure_channel(p.address) as channel:
            manager = Stub(channel)
            stream, _ = await attached(manager, "w")
            await manager.Acquire(pb.AcquireRequest(worker_id="w", expert_id="tiny", wait_until_resident=True))
            top = await coe("top", "--address", p.address, "--once")
            assert "tiny@replica-1" in top
            assert "resident" in top
            stream.cancel()
    replay = await coe("replay", str(log))
    assert "Grant(" in replay
    assert "0 hits, 1 misses, 1 loads, 0 evictions" in replay


async def coe(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coe.cli.main", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return output.decode()
