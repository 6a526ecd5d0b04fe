"""A mount whose lookups hang blocks threads, but neither the loop nor other experts."""

import asyncio
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe.expert_worker.lease_socket import LeaseSocket as Client
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import runtime as runtime_module
from coe.memory_tier_manager.calls import Calls, Identity
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.lease_socket import LeaseSocket
from coe.memory_tier_manager.looks import Looks
from coe.memory_tier_manager.profiles import HOST
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.servicer import MemoryTierManagerServicer
from coe.memory_tier_manager.versions import Versions
from coe.memory_tier_manager.watchers import Watchers
from coe.platform.errors import ExpertNotFound, TierLoadError, Unavailable
from support.deadlines import until_true
from support.fake_arena import FakeArena, FakeLibrary

WAIT_S = 10.0
CONTEXT = SimpleNamespace(time_remaining=lambda: WAIT_S)


class Node:
    """Room for three experts. Looks are given up soon, loads a little later."""

    def __init__(self) -> None:
        self.library = FakeLibrary(dead=4, a=4, b=4)
        self.arena = FakeArena("fake", 12, 4)
        limits = Limits(hbm_bytes=12, ddr_bytes=12, slots=4, alignment=1, load_timeout_s=0.3)
        self.tiers = Tiers(limits, EVICTION["lru"])
        looks = Looks(patience_s=0.1)
        self.versions = Versions(self.library, lambda event: self.runtime.post(event), looks)
        self.versions.meet(self.library.experts())
        self.runtime = Runtime(
            self.tiers, self.arena, self.versions, lambda item, now: None, patience_s=0.02, looks=looks
        )
        self.path = Path(tempfile.gettempdir()) / f"coe-test-{uuid.uuid4().hex[:12]}"
        identity = Identity("node", 1, 7, "fake", HOST, str(self.path))
        calls = Calls(identity, self.runtime, self.versions)
        self.socket = LeaseSocket(self.path, calls, self.runtime)
        self.servicer = MemoryTierManagerServicer(identity, self.tiers, self.runtime, calls, self.versions, Watchers())
        self.answers = self.library.dead["dead"] = threading.Event()

    def acquire(self, expert: str) -> "asyncio.Task[object]":
        event = ev.Acquire(self.runtime.next_request(), "w", expert, 4)
        return asyncio.create_task(self.runtime.ask(event))


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.socket.start()
    node.runtime.post(ev.Attach("w", 1))
    running = asyncio.create_task(node.runtime.run(tick_s=0.01))
    yield node
    node.answers.set()
    await until_true(lambda: node.tiers.idle and not node.runtime.disk_waits)
    node.tiers.check_integrity()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await node.socket.stop()
    await node.runtime.close()
    assert all(source.closed for source in node.library.opened)


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    client = await Client.connect(str(node.path))
    yield client
    client.close()


def wish(expert: str, weights: int = 0) -> pb.AcquireRequest:
    return pb.AcquireRequest(worker_id="w", expert_id=expert, weights=weights)


async def test_a_file_that_does_not_open_releases_the_link_and_fails_after_the_load_timeout(node: Node) -> None:
    dead = node.acquire("dead")
    assert await node.acquire("a")
    with pytest.raises(TierLoadError, match="took more than"):
        await dead
    assert node.runtime.disk_waits
    with pytest.raises(TierLoadError, match="disk is not responding"):
        await node.acquire("dead")
    node.answers.set()
    await until_true(lambda: "dead" not in node.tiers.hbm.entries)
    assert await node.acquire("dead")


async def test_a_load_withdrawn_before_its_file_opens_never_begins(node: Node) -> None:
    leaving = node.acquire("dead")
    await until_true(lambda: "dead" in node.tiers.hbm.aside)
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    node.answers.set()
    await until_true(lambda: "dead" not in node.tiers.hbm.entries)
    assert not node.arena.copies


async def test_a_file_that_opens_after_shutdown_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "CLOSE_S", 0.05)
    node = Node()
    node.runtime.post(ev.Attach("w", 1))
    dead = node.acquire("dead")
    await until_true(lambda: "dead" in node.tiers.hbm.aside)
    await node.runtime.close()
    with pytest.raises(Unavailable):
        await dead
    node.answers.set()
    await until_true(lambda: node.library.opened)
    await until_true(lambda: node.library.opened[0].closed)
    assert not node.arena.copies


async def test_other_experts_are_leased_while_a_lookup_hangs(node: Node, client: Client) -> None:
    dead = asyncio.create_task(client.acquire(wish("dead"), WAIT_S))
    assert (await client.acquire(wish("a"), WAIT_S)).lease.expert_id == "a"
    assert not dead.done()
    with pytest.raises(TierLoadError, match="file system is not responding"):
        await dead
    assert len(node.tiers.leases.of_worker("w")) == 1


async def test_known_weights_are_leased_without_a_lookup(node: Node, client: Client) -> None:
    held = await client.acquire(wish("b"), WAIT_S)
    node.library.dead["b"] = node.answers
    again = await client.acquire(wish("b", weights=1), WAIT_S)
    assert again.lease.slot == held.lease.slot


async def test_a_caller_that_leaves_during_the_lookup_requests_nothing(node: Node, client: Client) -> None:
    leaving = asyncio.create_task(client.acquire(wish("dead"), WAIT_S))
    await until_true(lambda: node.versions._looks._asked)
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    assert (await client.acquire(wish("a"), WAIT_S)).lease.expert_id == "a"
    node.answers.set()
    await until_true(lambda: not node.versions._looks._asked)
    assert node.tiers.hbm.entries.keys() == {"a"}


async def test_a_prefetch_of_a_loading_expert_needs_no_lookup(node: Node, client: Client) -> None:
    """A worker that turns to others says so right before it takes its acquire back: the load must go on."""
    waiting = asyncio.create_task(client.acquire(wish("dead", weights=1), WAIT_S))
    await until_true(lambda: node.tiers.pending)
    prefetching = asyncio.create_task(client.prefetch(pb.PrefetchRequest(worker_id="w", expert_id="dead")))
    await asyncio.sleep(0)
    waiting.cancel()
    await prefetching
    await until_true(lambda: not node.tiers.pending)
    node.answers.set()
    await until_true(lambda: node.tiers.idle)
    assert node.arena.is_resident(node.tiers.hbm.entries["dead"].slot)


async def test_experts_are_listed_as_last_seen(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coe.memory_tier_manager.versions.LIST_S", 0.05)
    listed = await node.servicer.ListResidency(pb.ListResidencyRequest(), CONTEXT)  # type: ignore[arg-type]
    assert {expert.expert_id for expert in listed.experts} == {"dead", "a", "b"}
    await node.versions.follow(["dead"])


async def test_a_lookup_is_shared_and_refused_immediately_while_overdue() -> None:
    looks, gate, asked = Looks(patience_s=0.05), threading.Event(), []

    def question() -> int:
        asked.append(1)
        assert gate.wait(WAIT_S)
        return 7

    first, second = (asyncio.create_task(looks.ask("q", question)) for _ in range(2))
    for task in (first, second):
        with pytest.raises(TierLoadError, match="q: the file system is not responding"):
            await task
    with pytest.raises(TierLoadError):
        await looks.ask("q", question)
    assert len(asked) == 1
    gate.set()
    await until_true(lambda: not looks._asked)
    assert await looks.ask("q", question) == 7


async def test_the_number_of_hanging_lookups_is_bounded() -> None:
    looks, gate = Looks(patience_s=0.01), threading.Event()
    for number in range(12):
        with pytest.raises(TierLoadError):
            await looks.ask(f"q{number}", lambda: gate.wait(WAIT_S))
    assert looks.hanging == 8
    with pytest.raises(TierLoadError, match="too many file systems"):
        await looks.ask("more", lambda: gate.wait(WAIT_S), patience_s=WAIT_S)
    gate.set()
    await until_true(lambda: not looks.hanging)
    assert await looks.ask("more", lambda: 1) == 1


async def test_the_error_of_a_lookup_is_its_answer() -> None:
    looks = Looks()

    def missing() -> None:
        raise ExpertNotFound("none")

    def broken() -> None:
        raise OSError("input/output error")

    with pytest.raises(ExpertNotFound):
        await looks.ask("missing", missing)
    with pytest.raises(TierLoadError, match="input/output error"):
        await looks.ask("broken", broken)
