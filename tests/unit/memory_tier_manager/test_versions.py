"""Experts that are removed and reimported under the same name: leases are on the requested bytes."""

from collections.abc import AsyncIterator

import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import views
from coe.memory_tier_manager.calls import Calls, Identity
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.profiles import HOST
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.tiers import Tier
from coe.memory_tier_manager.versions import Versions
from coe.platform.errors import ExpertNotFound, TierLoadError
from support.deadlines import until_true
from support.fake_arena import FakeArena, FakeLibrary


class Node:
    """Room for two experts of four bytes."""

    def __init__(self) -> None:
        self.library = FakeLibrary(a=4, b=4)
        self.arena = FakeArena("fake", 8, 4)
        limits = Limits(hbm_bytes=8, ddr_bytes=16, slots=4, alignment=1)
        self.tiers = Tiers(limits, EVICTION["lru"], {"b": 4})
        self.versions = Versions(self.library, lambda event: self.runtime.post(event))
        self.runtime = Runtime(self.tiers, self.arena, self.versions, lambda item, now: None)
        self.calls = Calls(Identity("node", 1, 7, "fake", HOST), self.runtime, self.versions)
        self.versions.meet(self.library.experts())
        self.runtime.post(ev.Attach("w", 1))

    async def acquire(self, expert: str, *, weights: int = 0) -> fx.Grant:
        request = pb.AcquireRequest(worker_id="w", expert_id=expert, wait_until_resident=True, weights=weights)
        grant = await self.runtime.ask(await self.calls.acquire(request, 30.0))
        assert isinstance(grant, fx.Grant)
        return grant

    def release(self, grant: fx.Grant) -> None:
        self.runtime.post(ev.Release("w", grant.lease))

    async def pin(self, expert: str, *, pinned: bool = True) -> None:
        await self.runtime.ask(await self.calls.pin(pb.PinRequest(expert_id=expert, pinned=pinned)))

    def shown(self, expert: str) -> pb.ExpertResidency:
        version = self.versions.last(expert)
        return views.residency(self.tiers, version.key, version.nbytes)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    await until_true(lambda: node.tiers.idle)
    node.tiers.check_integrity()
    await node.runtime.close()
    assert all(source.closed for source in node.library.opened)


async def test_new_bytes_of_the_same_size_are_loaded_at_the_next_acquire(node: Node) -> None:
    former = await node.acquire("a")
    await until_true(lambda: node.tiers.ddr.has("a"))
    node.library.tags["a"] = 2
    again = await node.acquire("a")
    assert (again.found_in, again.copied) == (Tier.DISK, 4)
    assert again.slot != former.slot
    assert [source.tag for source in node.library.opened if source.tag == 2], "the new file was opened"
    assert node.calls.acquired(again).lease.expert_id == "a"
    assert node.arena.is_resident(former.slot), "who reads the former bytes goes on"
    assert not node.tiers.ddr.has("a")
    node.release(former)
    await until_true(lambda: "a" not in node.tiers.hbm.entries)
    assert not node.arena.is_resident(former.slot)
    assert (node.shown("a").expert_id, node.shown("a").leases) == ("a", 1)
    assert (await node.acquire("a")).found_in is Tier.HBM
    assert views.present(node.tiers) == ["a", *(["b"] if "b" in node.tiers.hbm.entries else [])]


async def test_a_lease_is_on_the_requested_bytes(node: Node) -> None:
    node.release(await node.acquire("a", weights=1))
    node.library.tags["a"] = 2
    # What the manager has seen need not be looked at again; what it has not seen is.
    assert (await node.acquire("a", weights=1)).found_in is Tier.HBM
    assert (await node.acquire("a", weights=2)).copied == 4
    with pytest.raises(TierLoadError, match="reimported") as refused:
        await node.acquire("a", weights=1)
    assert refused.value.retryable


async def test_an_expert_that_is_gone_leaves_and_comes_back(node: Node) -> None:
    node.release(await node.acquire("a"))
    await until_true(lambda: node.tiers.ddr.has("a"))
    del node.library.sizes["a"]
    with pytest.raises(ExpertNotFound):
        await node.acquire("a")
    assert "a" not in views.present(node.tiers)
    assert node.shown("a").state == pb.RESIDENCY_STATE_ABSENT
    node.library.sizes["a"] = 4
    assert (await node.acquire("a")).copied == 4


async def test_pins_and_defaults_follow_the_expert_to_its_new_bytes(node: Node) -> None:
    await node.pin("a")
    await until_true(lambda: {"a", "b"} <= node.tiers.hbm.entries.keys() and node.tiers.idle)
    for expert in "ab":
        del node.library.sizes[expert]
    await node.versions.look_again("ab")
    await until_true(lambda: node.tiers.idle and not node.tiers.hbm.entries)
    for expert in "ab":
        node.library.sizes[expert], node.library.tags[expert] = 4, 3
    await node.versions.look_again("ab")
    await until_true(lambda: len(node.tiers.hbm.entries) == 2 and node.tiers.idle)
    assert node.shown("a").pinned
    assert node.shown("b").tier == pb.TIER_HBM
    await node.pin("a", pinned=False)
    assert not node.shown("a").pinned


async def test_an_outdated_listing_changes_nothing(node: Node) -> None:
    old = node.library.experts()
    node.library.tags["a"] = 2
    grant = await node.acquire("a")
    await node.versions.learn(old)
    assert (await node.acquire("a")).slot == grant.slot


async def test_a_file_with_other_bytes_than_requested_is_not_opened(node: Node) -> None:
    key = (await node.versions.current("a")).key
    node.library.tags["a"] = 2
    with pytest.raises(TierLoadError, match="reimported"):
        node.versions.open(key)
    assert node.library.opened[-1].closed
