"""What the gRPC service adds to the run loop: withdrawn calls."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.calls import Calls, Identity
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.profiles import HOST
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.servicer import MemoryTierManagerServicer
from coe.memory_tier_manager.versions import Versions
from coe.memory_tier_manager.watchers import Watchers
from coe.platform.errors import Cancelled, Unavailable
from support.deadlines import until_true
from support.fake_arena import FakeArena, FakeLibrary

CONTEXT = SimpleNamespace(time_remaining=lambda: 30.0)


class Node:
    def __init__(self) -> None:
        library = FakeLibrary(a=4)
        self.arena = FakeArena("fake", 8, 4, by_hand=True)
        self.tiers = Tiers(Limits(hbm_bytes=8, ddr_bytes=8, slots=4, alignment=1), EVICTION["lru"])
        versions = Versions(library, lambda event: self.runtime.post(event))
        self.runtime = Runtime(self.tiers, self.arena, versions, lambda item, now: None)
        identity = Identity("node", 1, 7, "fake", HOST)
        calls = Calls(identity, self.runtime, versions)
        self.watchers = Watchers()
        self.servicer = MemoryTierManagerServicer(identity, self.tiers, self.runtime, calls, versions, self.watchers)
        self.runtime.post(ev.Attach("w", 1))


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    await node.runtime.close()


async def test_a_withdrawn_call_is_answered_and_its_load_cancelled(node: Node) -> None:
    request = pb.AcquireRequest(worker_id="w", expert_id="a", wait_until_resident=True, call=3)
    asking = asyncio.create_task(node.servicer.Acquire(request, CONTEXT))  # type: ignore[arg-type]
    await until_true(lambda: node.arena.copies)
    for other in (pb.ReleaseRequest(worker_id="w", call=4), pb.ReleaseRequest(worker_id="other", call=3)):
        await node.servicer.Release(other, CONTEXT)  # type: ignore[arg-type]
    assert node.tiers.pending
    await node.servicer.Release(pb.ReleaseRequest(worker_id="w", call=3), CONTEXT)  # type: ignore[arg-type]
    with pytest.raises(Cancelled):
        await asking
    assert not len(node.tiers.leases)
    await until_true(lambda: not node.tiers.hbm.entries)


async def test_a_watcher_that_leaves_early_is_forgotten(node: Node) -> None:
    stream = node.servicer.WatchResidency(pb.WatchResidencyRequest(), CONTEXT)  # type: ignore[arg-type]
    assert (await anext(stream)).expert.expert_id == "a"
    assert len(node.watchers) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert not len(node.watchers)


async def test_nobody_can_attach_during_shutdown(node: Node) -> None:
    """A worker that maps an arena which is gone by then ends."""
    attached = node.servicer.Attach(pb.AttachRequest(worker_id="v"), CONTEXT)  # type: ignore[arg-type]
    assert (await anext(attached)).arena == "fake"
    node.servicer.stop()
    with pytest.raises(StopAsyncIteration):
        await anext(attached)
    assert set(node.tiers.attached) == {"w"}
    with pytest.raises(Unavailable):
        await anext(node.servicer.Attach(pb.AttachRequest(worker_id="v"), CONTEXT))  # type: ignore[arg-type]
