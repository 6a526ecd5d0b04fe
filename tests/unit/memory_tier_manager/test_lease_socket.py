"""The lease socket end to end: the worker's side against the manager's, over a real unix socket and a fake arena."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from coe._proto import memory_tier_manager_pb2 as pb
from coe.expert_worker.lease_socket import LeaseSocket as Client
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.calls import Calls, Identity
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.lease_socket import LeaseSocket
from coe.memory_tier_manager.profiles import HOST
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.versions import Versions
from coe.platform.errors import ExpertNotFound, Unavailable
from coe.platform.telemetry import sampling, spans
from support.deadlines import until_true
from support.fake_arena import FakeArena, FakeLibrary
from support.spans import edges, recorder

WAIT_S = 10.0


class Node:
    """A manager with room for two experts of three."""

    def __init__(self, *, by_hand: bool = False) -> None:
        self.library = FakeLibrary(a=4, b=4, c=4)
        self.arena = FakeArena("fake", 8, 4, by_hand=by_hand)
        self.tiers = Tiers(Limits(hbm_bytes=8, ddr_bytes=8, slots=4, alignment=1), EVICTION["lru"])
        self.observe: Callable[[object], object] = lambda item: None
        versions = Versions(self.library, lambda event: self.runtime.post(event))
        self.runtime = Runtime(self.tiers, self.arena, versions, lambda item, now: self.observe(item))
        self.path = Path(tempfile.gettempdir()) / f"coe-test-{uuid.uuid4().hex[:12]}"
        calls = Calls(Identity("node", 1, 7, "fake", HOST, str(self.path)), self.runtime, versions)
        self.socket = LeaseSocket(self.path, calls, self.runtime)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.socket.start()
    node.runtime.post(ev.Attach("w", 1))
    yield node
    await node.socket.stop()
    await node.runtime.close()


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    client = await Client.connect(str(node.path))
    yield client
    client.close()


def wish(expert: str, *, resident: bool = False) -> pb.AcquireRequest:
    return pb.AcquireRequest(worker_id="w", expert_id=expert, wait_until_resident=resident)


async def test_leases_come_and_go(node: Node, client: Client) -> None:
    answer = await client.acquire(wish("a"), WAIT_S)
    assert (answer.lease.expert_id, answer.lease.epoch, answer.found_in) == ("a", 7, pb.TIER_DISK)
    assert node.tiers.leases.count("a") == 1
    client.release(pb.ReleaseRequest(worker_id="w", lease_id=answer.lease.lease_id))
    await until_true(lambda: not node.tiers.leases.count("a"))
    await client.prefetch(pb.PrefetchRequest(worker_id="w", expert_id="b"))
    assert "b" in node.tiers.hbm.entries


async def test_errors_arrive_as_themselves(client: Client) -> None:
    with pytest.raises(ExpertNotFound, match="nobody"):
        await client.acquire(wish("nobody"), WAIT_S)
    with pytest.raises(Unavailable, match="not attached"):
        await client.acquire(pb.AcquireRequest(worker_id="stranger", expert_id="a"), WAIT_S)


async def test_many_calls_can_wait_concurrently(node: Node, client: Client) -> None:
    """Answers come in the order in which they can be given, not that of the calls."""
    held = [await client.acquire(wish(expert), WAIT_S) for expert in "ab"]
    waiting = asyncio.create_task(client.acquire(wish("c", resident=True), WAIT_S))
    await until_true(lambda: node.tiers.pending)
    assert (await client.acquire(wish("a"), WAIT_S)).lease.expert_id == "a"
    assert not waiting.done()
    client.release(pb.ReleaseRequest(worker_id="w", lease_id=held[1].lease.lease_id))
    assert (await waiting).lease.expert_id == "c"


@pytest.mark.parametrize("how", ["the call is cancelled", "the connection ends"])
async def test_a_caller_that_leaves_withdraws_its_calls(how: str) -> None:
    node = Node(by_hand=True)
    await node.socket.start()
    node.runtime.post(ev.Attach("w", 1))
    leaving = await Client.connect(str(node.path))
    waiting = asyncio.create_task(leaving.acquire(wish("a", resident=True), WAIT_S))
    await until_true(lambda: node.tiers.pending)
    if how == "the call is cancelled":
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        leaving.close()
        with pytest.raises(Unavailable):
            await waiting
    await until_true(lambda: not node.tiers.pending and not node.tiers.hbm.entries)
    assert not len(node.tiers.leases)
    leaving.close()
    await node.socket.stop()
    await node.runtime.close()


async def test_a_lease_granted_before_its_cancellation_arrives_is_released(node: Node, client: Client) -> None:
    """The manager has answered when the caller leaves: its word that it left finds nothing to take back."""
    waiting = asyncio.create_task(client.acquire(wish("a"), WAIT_S))
    node.observe = lambda item: isinstance(item, fx.Grant) and waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until_true(lambda: not node.tiers.leases.count("a"))


async def test_a_lease_that_arrives_while_its_call_is_cancelled_is_released(
    node: Node, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_frame = client._on_frame

    def cancel_behind(frame: bytes) -> None:
        on_frame(frame)
        waiting.cancel()

    monkeypatch.setattr(client._frames, "_on_frame", cancel_behind)
    waiting = asyncio.create_task(client.acquire(wish("a"), WAIT_S))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until_true(lambda: not node.tiers.leases.count("a"), 5.0)


async def test_shutdown_of_the_manager_fails_every_call(node: Node, client: Client) -> None:
    await client.acquire(wish("a"), WAIT_S)
    await client.acquire(wish("b"), WAIT_S)
    waiting = asyncio.create_task(client.acquire(wish("c"), WAIT_S))
    await until_true(lambda: node.tiers.pending)
    await node.socket.stop()
    with pytest.raises(Unavailable):
        await waiting
    assert not client.open
    with pytest.raises(Unavailable):
        await client.acquire(wish("a"), WAIT_S)


async def test_a_sampled_trace_is_propagated(client: Client) -> None:
    name = "coe.v1.MemoryTierManager/Acquire"
    recorded = recorder()
    try:
        root = spans.start("process", SpanKind.CONSUMER, None, dict)
        with trace.use_span(root, end_on_exit=True):
            await client.acquire(wish("a"), WAIT_S)
            with pytest.raises(ExpertNotFound):
                await client.acquire(wish("nobody"), WAIT_S)
        found = recorded.get_finished_spans()
        assert edges(found) == {("process", name), (name, name)}
        assert all((span.attributes or {})["rpc.system.name"] == "coe" for span in found if span.name == name)
        failed = [span for span in found if span.attributes and span.attributes.get("error.type") == "expert_not_found"]
        assert [span.kind for span in failed] == [SpanKind.SERVER]
    finally:
        spans.record(sampling.never)


async def test_connecting_without_a_listener_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"\S"):
        await Client.connect(str(tmp_path / "nobody"))


async def test_a_duplicate_call_number_closes_only_that_connection(node: Node, client: Client) -> None:
    for expert in "ab":
        await client.acquire(wish(expert), WAIT_S)
    answers, stranger = await asyncio.open_unix_connection(str(node.path))
    call = pb.LeaseCall(call=1, acquire=wish("c")).SerializeToString()
    stranger.write(2 * (len(call).to_bytes(4, "little") + call))
    assert await answers.read() == b""
    await until_true(lambda: not node.tiers.pending)
    assert (await client.acquire(wish("a"), WAIT_S)).lease.expert_id == "a"
    stranger.close()


async def test_a_release_goes_with_the_next_call(node: Node, client: Client) -> None:
    """In their order, and without one too."""
    held = await client.acquire(wish("a"), WAIT_S)
    client.release(pb.ReleaseRequest(worker_id="w", lease_id=held.lease.lease_id))
    again = await client.acquire(wish("a"), WAIT_S)
    assert [lease.lease for lease in node.tiers.leases.of_expert("a")] == [again.lease.lease_id]
    client.release(pb.ReleaseRequest(worker_id="w", lease_id=again.lease.lease_id))
    await until_true(lambda: not node.tiers.leases.count("a"))
