"""The gRPC service coe.v1.MemoryTierManager, implemented on the run loop."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc.aio

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import views
from coe.memory_tier_manager.calls import Calls, Identity
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.liveness import process_end
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.versions import Versions
from coe.memory_tier_manager.watchers import Watchers
from coe.platform import logs
from coe.platform.errors import InvalidPrompt, Unavailable

_log = logs.get(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


class MemoryTierManagerServicer(memory_tier_manager_pb2_grpc.MemoryTierManagerServicer):
    def __init__(
        self,
        identity: Identity,
        tiers: Tiers,
        runtime: Runtime,
        calls: Calls,
        versions: Versions,
        watchers: Watchers,
    ) -> None:
        self._identity = identity
        self._tiers = tiers
        self._runtime = runtime
        self._calls = calls
        self._versions = versions
        self._watchers = watchers
        self._attachments = itertools.count(1)
        self._version = 0
        # Pending acquires, by worker and the worker's number for the call.
        self._asked: dict[tuple[str, int], ev.Acquire] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends the streams, which would otherwise delay the server's shutdown."""
        self._stopping.set()

    async def Acquire(self, request: pb.AcquireRequest, context: Context) -> pb.AcquireResponse:
        event = await self._calls.acquire(request, context.time_remaining())
        number = (request.worker_id, request.call)
        if request.call:
            self._asked[number] = event
        try:
            return self._calls.acquired(cast("fx.Grant", await self._runtime.ask(event)))
        finally:
            self._asked.pop(number, None)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        if not request.call:
            self._runtime.post(self._calls.release(request))
        elif (asked := self._asked.get((request.worker_id, request.call))) is not None:
            # The caller of Acquire gets `cancelled`, or a grant that is already on its way.
            self._runtime.post(ev.CancelAcquire(asked.request))
        return pb.ReleaseResponse()

    async def Prefetch(self, request: pb.PrefetchRequest, context: Context) -> pb.PrefetchResponse:
        answer = await self._runtime.ask(await self._calls.prefetch(request))
        return self._calls.prefetched(cast("fx.Prefetched", answer))

    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        await self._runtime.ask(await self._calls.pin(request))
        return pb.PinResponse()

    async def ListResidency(self, request: pb.ListResidencyRequest, context: Context) -> pb.ListResidencyResponse:
        hosted = await self._versions.hosted()
        # Experts no longer hosted, of which bytes may still be in a tier.
        gone = [name for name in views.present(self._tiers) if name not in hosted]
        shown = {**hosted, **{name: self._versions.last(name) for name in gone}}
        return pb.ListResidencyResponse(
            node=self._identity.node,
            epoch=self._identity.epoch,
            experts=[views.residency(self._tiers, version.key, version.nbytes) for version in shown.values()],
            tiers=views.usage(self._tiers),
        )

    async def WatchResidency(
        self, request: pb.WatchResidencyRequest, context: Context
    ) -> AsyncIterator[pb.WatchResidencyResponse]:
        with self._watchers.follow(self._stopping) as changes:
            for expert in await self._versions.hosted():
                yield self._change(expert)
            async for experts in changes:
                for expert in experts:
                    yield self._change(expert)

    async def Attach(self, request: pb.AttachRequest, context: Context) -> AsyncIterator[pb.AttachResponse]:
        if not request.worker_id:
            raise InvalidPrompt("worker_id is empty")
        if self._stopping.is_set():
            # The arena may be gone before this call's end: a worker could no longer map it.
            raise Unavailable("the memory-tier manager is shutting down")
        attachment = next(self._attachments)
        async with process_end(request.pid, request.pid_space) as ended:
            self._runtime.post(self._calls.attach(request, attachment))
            _log.info("worker attached", worker=request.worker_id, pid=request.pid)
            try:
                yield pb.AttachResponse(
                    node=self._identity.node,
                    epoch=self._identity.arena_epoch,
                    arena=self._identity.arena,
                    tier_profile=self._identity.profile.name,
                    hbm_capacity_bytes=self._tiers.hbm.budget.capacity,
                    lease_socket=self._identity.lease_socket,
                )
                await _first(ended, self._stopping)
            finally:
                self._runtime.post(ev.Detach(request.worker_id, attachment))
                _log.info("worker detached", worker=request.worker_id, pid=request.pid)

    def _change(self, expert: str) -> pb.WatchResidencyResponse:
        self._version += 1
        version = self._versions.last(expert)
        return pb.WatchResidencyResponse(
            node=self._identity.node,
            epoch=self._identity.epoch,
            version=self._version,
            expert=views.residency(self._tiers, version.key, version.nbytes),
        )


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
