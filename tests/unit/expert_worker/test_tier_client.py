"""The tier client against a manager that fails in every way, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.expert_worker.effects import Acquire, Grant, Prefetch, Residency
from coe.expert_worker.tier_client import TierClient
from coe.platform.errors import CapacityExceeded, ChecksumMismatch, CoEError, TierLoadError, Unavailable
from coe.platform.rpc.server import ServerInterceptor
from coe.scheduling import NextUse
from support.deadlines import until_true

WAIT_S = 10.0


@dataclass
class FakeManager(memory_tier_manager_pb2_grpc.MemoryTierManagerServicer):
    """Answers Acquire with the next of `failures`, then with a lease."""

    failures: list[CoEError] = field(default_factory=list)
    epoch: int = 1
    acquired: list[pb.AcquireRequest] = field(default_factory=list)
    prefetched: list[pb.PrefetchRequest] = field(default_factory=list)
    # Set: the attach stream ends.
    break_off: asyncio.Event = field(default_factory=asyncio.Event)
    changes: list[pb.ExpertResidency] = field(default_factory=list)
    # Of each attach, the leases that the worker said it has.
    held: list[list[int]] = field(default_factory=list)
    # Not set: leases are not answered yet.
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    released: "asyncio.Queue[pb.ReleaseRequest]" = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.answering.set()

    async def Attach(self, request: pb.AttachRequest, context: Any) -> AsyncIterator[pb.AttachResponse]:
        self.held.append([lease.lease_id for lease in request.held])
        yield pb.AttachResponse(node="n", epoch=self.epoch, arena="arena", tier_profile="host")
        await self.break_off.wait()

    async def Acquire(self, request: pb.AcquireRequest, context: Any) -> pb.AcquireResponse:
        self.acquired.append(request)
        if self.failures:
            raise self.failures.pop(0)
        await self.answering.wait()
        lease = pb.Lease(lease_id=5, expert_id=request.expert_id, slot=2, generation=3, epoch=self.epoch)
        return pb.AcquireResponse(lease=lease, found_in=pb.TIER_DDR, bytes_to_copy=7, modelled_copy_s=0.5)

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        self.released.put_nowait(request)
        raise Unavailable("going down")

    async def Prefetch(self, request: pb.PrefetchRequest, context: Any) -> pb.PrefetchResponse:
        self.prefetched.append(request)
        raise CapacityExceeded("no room")

    async def WatchResidency(
        self, request: pb.WatchResidencyRequest, context: Any
    ) -> AsyncIterator[pb.WatchResidencyResponse]:
        for change in self.changes:
            yield pb.WatchResidencyResponse(expert=change)
        await asyncio.Event().wait()


def handle(slot: int, generation: int) -> int:
    return 100 * generation + slot


@asynccontextmanager
async def attached(
    manager: FakeManager, on_attached: Callable[[pb.AttachResponse], None] = lambda response: None, timeout_s: float = 5
) -> AsyncIterator[TierClient]:
    server = grpc.aio.server(interceptors=[ServerInterceptor()])
    memory_tier_manager_pb2_grpc.add_MemoryTierManagerServicer_to_server(manager, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = TierClient(
        f"127.0.0.1:{port}", "w", lambda slot, generation: 100 * generation + slot, acquire_timeout_s=timeout_s
    )
    try:
        async with client.open():
            staying = asyncio.create_task(client.stay_attached(on_attached))
            try:
                yield client
            finally:
                staying.cancel()
                await asyncio.gather(staying, return_exceptions=True)
    finally:
        await server.stop(0)


async def test_a_grant_has_its_handle_and_costs() -> None:
    manager = FakeManager()
    async with attached(manager) as client:
        grant = await client.acquire(Acquire("a", [NextUse("b", float("inf"), 0.25)], until_resident=True))
    assert grant == Grant(5, 302, 1, "ddr", 7, 0.5)
    request = manager.acquired[0]
    assert (request.worker_id, request.expert_id, request.wait_until_resident) == ("w", "a", True)
    assert [(use.expert_id, use.in_s, use.probability) for use in request.forecast] == [("b", float("inf"), 0.25)]


async def test_acquire_retries_while_the_manager_is_unreachable_or_full() -> None:
    manager = FakeManager([Unavailable("away"), CapacityExceeded("full")])
    async with attached(manager) as client:
        assert (await client.acquire(Acquire("a"))).lease_id == 5
    assert len(manager.acquired) == 3


async def test_errors_that_are_not_retryable_are_raised_unchanged() -> None:
    manager = FakeManager([ChecksumMismatch("chunk 3 is damaged")])
    async with attached(manager) as client:
        with pytest.raises(ChecksumMismatch, match="chunk 3"):
            await client.acquire(Acquire("a"))


async def test_acquire_times_out_with_the_reason() -> None:
    manager = FakeManager([CapacityExceeded("every slot is leased")] * 100)
    async with attached(manager, timeout_s=0.3) as client:
        with pytest.raises(TierLoadError, match="every slot is leased"):
            await client.acquire(Acquire("a"))


async def test_acquire_times_out_without_a_manager() -> None:
    client = TierClient("127.0.0.1:1", "w", handle, acquire_timeout_s=0.1)
    async with client.open():
        with pytest.raises(TierLoadError, match="is unreachable"):
            await client.acquire(Acquire("a"))


async def test_a_broken_stream_is_reattached_and_reports_the_new_epoch() -> None:
    manager = FakeManager()
    epochs: asyncio.Queue[int] = asyncio.Queue()
    async with attached(manager, lambda response: epochs.put_nowait(response.epoch)), asyncio.timeout(WAIT_S):
        assert await epochs.get() == 1
        manager.epoch = 2
        manager.break_off.set()
        assert await epochs.get() == 2


async def test_held_leases_are_presented_again_while_the_arena_is_the_same() -> None:
    manager = FakeManager()
    epochs: asyncio.Queue[int] = asyncio.Queue()
    async with attached(manager, lambda response: epochs.put_nowait(response.epoch)) as client:
        async with asyncio.timeout(WAIT_S):
            grant = await client.acquire(Acquire("a"))
            for epoch in (1, 2, 2):
                assert await epochs.get()
                manager.epoch = epoch
                manager.break_off.set()
                manager.break_off = asyncio.Event()
            await epochs.get()
            await client.release(grant)
    assert manager.held[:4] == [[], [5], [5], []], "the third was told the new epoch"


async def test_release_and_prefetch_never_fail() -> None:
    manager = FakeManager()
    async with attached(manager) as client:
        await client.release(await client.acquire(Acquire("a")))
        await client.prefetch(Prefetch("b", [NextUse("b", 1.0, 0.5)]))
    assert manager.prefetched[0].may_evict
    assert manager.prefetched[0].forecast[0].in_s == 1.0


@pytest.mark.parametrize("why", ["cancelled", "too late"])
async def test_a_lease_granted_while_its_caller_leaves_is_released(why: str) -> None:
    manager = FakeManager()
    manager.answering.clear()
    async with attached(manager, timeout_s=0.2 if why == "too late" else 5) as client, asyncio.timeout(WAIT_S):
        asking = asyncio.create_task(client.acquire(Acquire("a")))
        await until_true(lambda: manager.acquired)
        if why == "cancelled":
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        else:
            with pytest.raises(TierLoadError, match="not in HBM in time"):
                await asking
        taken_back = await manager.released.get()
        assert (taken_back.call, taken_back.lease_id) == (manager.acquired[0].call, 0)
        assert taken_back.call
        manager.answering.set()
        given_back = await manager.released.get()
        assert (given_back.worker_id, given_back.lease_id) == ("w", 5)


async def test_reported_residency_is_that_in_hbm() -> None:
    tier, state = pb.TIER_HBM, pb.RESIDENCY_STATE_RESIDENT
    manager = FakeManager(
        changes=[
            pb.ExpertResidency(expert_id="a", tier=pb.TIER_HBM, state=pb.RESIDENCY_STATE_LOADING, bytes=9),
            pb.ExpertResidency(expert_id="a", tier=tier, state=state, bytes=9),
            pb.ExpertResidency(expert_id="a", tier=tier, state=pb.RESIDENCY_STATE_EVICTING, bytes=9, leases=1),
            pb.ExpertResidency(expert_id="a", tier=tier, state=pb.RESIDENCY_STATE_EVICTING, bytes=9),
            pb.ExpertResidency(expert_id="a", tier=pb.TIER_DDR, state=state, bytes=9),
        ]
    )
    seen: asyncio.Queue[tuple[str, int, Residency]] = asyncio.Queue()
    async with attached(manager) as client, asyncio.timeout(WAIT_S):
        watching = asyncio.create_task(client.watch(lambda *change: seen.put_nowait(change)))
        found = [await seen.get() for _ in range(5)]
        watching.cancel()
    wanted = [Residency.LOADING, Residency.RESIDENT, Residency.LEAVING, Residency.ABSENT, Residency.ABSENT]
    assert found == [("a", 9, residency) for residency in wanted]
