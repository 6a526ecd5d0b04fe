"""kill -9 of the manager's process: its successor goes on with the arena, and workers keep what they hold."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.expert_worker.effects import Acquire
from coe.expert_worker.tier_client import TierClient
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.local.ports import free_port
from coe.memory_tier_manager.native_arena import SHARED_MEMORY, NativeArena
from coe.native import HbmArena, SlotState, lease_handle
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf
from support.tiers_process import tiers_process

WAIT_S = 30.0
Settings = dict[str, object]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    import_gguf(write_tiny_gguf(home / "tiny.gguf", TinyModel()), home / "experts", "tiny")
    Catalogue(home / "experts").replicate("tiny", 1)
    return home


@pytest.fixture
def settings() -> Settings:
    """Of a manager that comes again at the same address with the same arena."""
    return {
        "arena": f"coe-test-{uuid.uuid4().hex[:8]}",
        "hbm_bytes": 4 << 20,
        "coe_grpc_port": free_port(),
        "coe_redis_url": "redis://127.0.0.1:1/0",
    }


@asynccontextmanager
async def worker(port: object) -> AsyncIterator[tuple[TierClient, "asyncio.Queue[pb.AttachResponse]"]]:
    """The worker's own client, and what it is told when it is attached."""
    hellos: asyncio.Queue[pb.AttachResponse] = asyncio.Queue()
    client = TierClient(f"127.0.0.1:{port}", "w", lease_handle, acquire_timeout_s=WAIT_S)
    async with client.open():
        staying = asyncio.create_task(client.stay_attached(hellos.put_nowait))
        try:
            yield client, hellos
        finally:
            staying.cancel()
            await asyncio.gather(staying, return_exceptions=True)


async def listed(port: object) -> tuple[dict[str, pb.ExpertResidency], pb.TierUsage]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        manager = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(channel)
        answer = await manager.ListResidency(pb.ListResidencyRequest(), timeout=WAIT_S)
    return {expert.expert_id: expert for expert in answer.experts}, answer.tiers[0]


async def test_leases_and_residents_outlive_the_manager(home: Path, settings: Settings) -> None:
    port = settings["coe_grpc_port"]
    async with worker(port) as (client, hellos):
        with tiers_process(home, **settings) as manager:
            hello = await asyncio.wait_for(hellos.get(), WAIT_S)
            grant = await client.acquire(Acquire("tiny", until_resident=True))
            await client.release(await client.acquire(Acquire("tiny@replica-1", until_resident=True)))
            arena = HbmArena.attach(hello.arena)
            before = arena.slot(0)
            manager.process.kill()
            manager.process.wait(WAIT_S)
        assert arena.slot(0) == before
        with tiers_process(home, **settings):
            again = await asyncio.wait_for(hellos.get(), WAIT_S)
            assert (again.epoch, again.arena) == (hello.epoch, hello.arena)
            experts, hbm = await listed(port)
            assert (experts["tiny"].leases, experts["tiny@replica-1"].leases) == (1, 0)
            assert (await client.acquire(Acquire("tiny@replica-1"))).found_in == "hbm"
            assert arena.slot(0) == before
            await client.release(grant)
            experts, hbm = await listed(port)
            assert not experts["tiny"].leases
            assert hbm.bytes_in == 0, "nothing was loaded again"
        arena.close()


async def test_an_expert_that_changed_meanwhile_is_loaded_anew(home: Path, settings: Settings, tmp_path: Path) -> None:
    port = settings["coe_grpc_port"]
    other = tmp_path / "other"
    import_gguf(write_tiny_gguf(tmp_path / "other.gguf", TinyModel(seed=9)), other / "experts", "tiny")
    async with worker(port) as (client, hellos):
        with tiers_process(home, **settings) as manager:
            hello = await asyncio.wait_for(hellos.get(), WAIT_S)
            former = (await client.acquire(Acquire("tiny", until_resident=True))).handle
            manager.process.kill()
            manager.process.wait(WAIT_S)
        with tiers_process(other, **settings), HbmArena.attach(hello.arena) as arena:
            await asyncio.wait_for(hellos.get(), WAIT_S)
            experts, hbm = await listed(port)
            assert experts["tiny"].tier != pb.TIER_HBM
            slots = [arena.slot(index) for index in range(arena.slots)]
            assert {slot.state for slot in slots} == {SlotState.FREE}
            assert hbm.used_bytes == 0, "nobody can use the former bytes, and they are free"
            assert former not in [lease_handle(index, slot.generation) for index, slot in enumerate(slots)]
            assert (await client.acquire(Acquire("tiny", until_resident=True))).bytes_to_copy


@pytest.mark.model
async def test_a_load_under_way_is_void(smollm2_bundle: Bundle, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "experts").symlink_to(smollm2_bundle.path.parent)
    settings["hbm_bytes"] = 2 * smollm2_bundle.weights_bytes
    port = settings["coe_grpc_port"]
    async with worker(port) as (client, hellos):
        # A minute and more for what is copied in a blink otherwise.
        with tiers_process(tmp_path, link_bytes_per_s=1e6, **settings) as manager:
            hello = await asyncio.wait_for(hellos.get(), WAIT_S)
            await client.acquire(Acquire(smollm2_bundle.id))
            arena = HbmArena.attach(hello.arena)
            before = arena.slot(0)
            assert before.state is SlotState.LOADING
            manager.process.kill()
            manager.process.wait(WAIT_S)
        with tiers_process(tmp_path, **settings):
            again = await asyncio.wait_for(hellos.get(), WAIT_S)
            assert again.epoch == hello.epoch
            experts, _ = await listed(port)
            assert not experts[smollm2_bundle.id].leases
            grant = await client.acquire(Acquire(smollm2_bundle.id, until_resident=True))
            assert grant.bytes_to_copy == smollm2_bundle.weights_bytes
            assert arena.slot(0).generation > before.generation
        arena.close()


async def test_an_arena_that_somebody_removed_ends_its_manager_and_is_made_anew(home: Path, settings: Settings) -> None:
    """No worker that starts could reach it: whoever runs them would start them in vain."""
    name, port = str(settings["arena"]), settings["coe_grpc_port"]
    path = SHARED_MEMORY / name
    async with worker(port) as (client, hellos):
        with tiers_process(home, **settings) as manager:
            await asyncio.wait_for(hellos.get(), WAIT_S)
            await client.acquire(Acquire("tiny", until_resident=True))
            path.unlink()
            assert await asyncio.to_thread(manager.process.wait, WAIT_S) == 1
            assert f"{path} was removed" in manager.log.read_text()
        with tiers_process(home, **settings):
            hello = await asyncio.wait_for(hellos.get(), WAIT_S)
            await client.acquire(Acquire("tiny", until_resident=True))
            with HbmArena.attach(hello.arena) as arena:
                assert arena.slot(0).state is SlotState.RESIDENT


def test_the_end_of_a_manager_leaves_an_arena_that_took_the_name(settings: Settings) -> None:
    name = str(settings["arena"])

    def made() -> NativeArena:
        return NativeArena(name, 4 << 20, 4, threads=1, bytes_per_second=0.0)

    former = made()
    (SHARED_MEMORY / name).unlink()
    assert not former.has_name
    latter = made()
    former.close()
    assert latter.has_name
    latter.close()
    assert not (SHARED_MEMORY / name).exists()
