"""The worker's client of the tier manager: keeps an attach stream open over gRPC, acquires and releases leases.

Lease calls use the manager's lease socket when it is on this host, otherwise gRPC.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.expert_worker.effects import Acquire, Grant, Prefetch, Residency
from coe.expert_worker.lease_socket import LeaseSocket
from coe.experts.bundle import Bundle
from coe.platform import logs
from coe.platform.errors import CoEError, DeadlineExceeded, TierLoadError, Unavailable
from coe.platform.pid_space import pid_space
from coe.platform.rpc.client import calls, channel, tls_trouble
from coe.scheduling import NextUse

_log = logs.get(__name__)
_FIRST_RETRY_S, _MAX_RETRY_S = 0.05, 1.0
# After a call's caller has left, its answer is still awaited for this long beyond the caller's timeout.
_LISTEN_S = 10.0
_AWAY = "the memory-tier manager is unreachable"
_TIERS = {pb.TIER_HBM: "hbm", pb.TIER_DDR: "ddr", pb.TIER_DISK: "disk"}

OnAttached = Callable[[pb.AttachResponse], None]
OnResidency = Callable[[str, int, Residency], None]
LeaseHandle = Callable[[int, int], int]
BundleOf = Callable[[str], Bundle]


class TierClient:
    """`lease_handle(slot, generation)` makes the handle that the graph reads (coe.native.lease_handle). `open` the
    client in the event loop.

    `bundle_of`: returns the bundle that an expert must run with; leases are then on exactly its weights. None: leases
    are on the weights that the manager knows.
    """

    def __init__(
        self,
        address: str,
        worker_id: str,
        lease_handle: LeaseHandle,
        *,
        acquire_timeout_s: float,
        bundle_of: BundleOf | None = None,
    ) -> None:
        self._address = address
        self._worker_id = worker_id
        self._lease_handle = lease_handle
        self._acquire_timeout_s = acquire_timeout_s
        self._bundle_of = bundle_of
        self._attached = asyncio.Event()
        # Whether the manager has ever answered.
        self._met = False
        self._socket: LeaseSocket | None = None
        # Leases not yet released. Presented again when the stream, or the manager, has been restarted.
        self._held: dict[int, pb.Lease] = {}
        self._calls = itertools.count(1)
        # gRPC calls whose callers have left, until they are answered.
        self._left: set[asyncio.Task[None]] = set()

    @property
    def attached(self) -> bool:
        return self._attached.is_set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with channel(self._address) as connection:
            self._manager = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
            try:
                yield
            finally:
                # Their leases end with the attach stream.
                left = list(self._left)
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)

    async def stay_attached(self, on_attached: OnAttached, on_broken: Callable[[], None] = lambda: None) -> None:
        """Runs until cancelled. Our leases last as long as the stream; when it breaks, the next one presents them
        again. `on_broken` is called after each attempt that ended."""

        async def attach() -> None:
            try:
                with calls():
                    request = pb.AttachRequest(
                        worker_id=self._worker_id,
                        pid=os.getpid(),
                        pid_space=pid_space(),
                        held=self._held.values(),
                    )
                    async for response in self._manager.Attach(request):
                        self._held = {
                            number: lease for number, lease in self._held.items() if lease.epoch == response.epoch
                        }
                        self._met = True
                        on_attached(response)
                        await self._connect(response.lease_socket)
                        self._attached.set()
            except Unavailable as error:
                if self._met:
                    raise
                # TLS may be the cause, and gRPC reports most TLS failures as a closed socket.
                raise Unavailable(await tls_trouble(self._address) or error.message) from None
            finally:
                self._attached.clear()
                self._disconnect()
                on_broken()

        await _again("the tier manager's attach stream", attach)

    async def watch(self, on_residency: OnResidency) -> None:
        """Reports residency changes until cancelled."""

        async def follow() -> None:
            await self._attached.wait()
            with calls():
                async for change in self._manager.WatchResidency(pb.WatchResidencyRequest()):
                    expert = change.expert
                    on_residency(expert.expert_id, expert.bytes, _residency(expert))

        await _again("the tier manager's residency stream", follow)

    async def acquire(self, wish: Acquire) -> Grant:
        """Retries while the manager is unreachable or full. Raises TierLoadError when that takes too long."""
        deadline = asyncio.get_running_loop().time() + self._acquire_timeout_s
        delay = _FIRST_RETRY_S
        reason = _AWAY
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._attached.wait()
                    reason = "they were not in HBM in time" if reason is _AWAY else reason
                    return await self._acquire_once(wish, deadline)
            except TimeoutError:
                raise self._too_long(wish.expert_id, reason) from None
            except CoEError as error:
                if not error.retryable and not isinstance(error, DeadlineExceeded):
                    raise
                reason = error.message
            if asyncio.get_running_loop().time() + delay >= deadline:
                raise self._too_long(wish.expert_id, reason)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_RETRY_S)

    async def release(self, grant: Grant) -> None:
        """Best effort: a lease that can't be released ends with the attach stream."""
        self._held.pop(grant.lease_id, None)
        request = pb.ReleaseRequest(worker_id=self._worker_id, lease_id=grant.lease_id)
        if self._socket is not None and self._socket.open:
            self._socket.release(request)
            return
        try:
            with calls():
                await self._manager.Release(request)
        except CoEError as error:
            _log.warning("cannot release a lease", lease=grant.lease_id, reason=error.message)

    async def prefetch(self, wish: Prefetch) -> None:
        """Best effort: without a prefetch, the expert is loaded when it is acquired."""
        request = pb.PrefetchRequest(
            worker_id=self._worker_id, expert_id=wish.expert_id, may_evict=True, forecast=_forecast(wish.forecast)
        )
        try:
            if self._socket is not None and self._socket.open:
                await self._socket.prefetch(request)
                return
            with calls():
                await self._manager.Prefetch(request)
        except CoEError as error:
            _log.info("prefetch failed", expert=wish.expert_id, reason=error.message)

    async def _acquire_once(self, wish: Acquire, deadline: float) -> Grant:
        request = pb.AcquireRequest(
            worker_id=self._worker_id,
            expert_id=wish.expert_id,
            wait_until_resident=wish.until_resident,
            forecast=_forecast(wish.forecast),
        )
        bundle = self._bundle_of(wish.expert_id) if self._bundle_of is not None else None
        if bundle is not None:
            request.weights = bundle.weights_tag
        timeout_s = deadline - asyncio.get_running_loop().time()
        if self._socket is not None and self._socket.open:
            response = await self._socket.acquire(request, timeout_s)
        else:
            response = await self._acquire_over_grpc(request, timeout_s)
        lease = response.lease
        self._held[lease.lease_id] = lease
        return Grant(
            lease_id=lease.lease_id,
            handle=self._lease_handle(lease.slot, lease.generation),
            epoch=lease.epoch,
            found_in=_TIERS.get(response.found_in, ""),
            bytes_to_copy=response.bytes_to_copy,
            modelled_copy_s=response.modelled_copy_s,
            bundle=bundle.identity if bundle is not None else "",
        )

    async def _acquire_over_grpc(self, request: pb.AcquireRequest, timeout_s: float) -> pb.AcquireResponse:
        """If the caller leaves, tells the manager so by a message instead of cancelling the call: cancelling would lose
        a lease that is already on its way back."""
        request.call = next(self._calls)
        asking = asyncio.create_task(self._ask(request, timeout_s + _LISTEN_S))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            leaving = asyncio.create_task(self._take_back(request, asking))
            self._left.add(leaving)
            leaving.add_done_callback(self._left.discard)
            raise

    async def _ask(self, request: pb.AcquireRequest, timeout_s: float) -> pb.AcquireResponse:
        with calls():
            response: pb.AcquireResponse = await self._manager.Acquire(request, timeout=timeout_s)
            return response

    async def _take_back(self, request: pb.AcquireRequest, asking: "asyncio.Task[pb.AcquireResponse]") -> None:
        try:
            with calls():
                await self._manager.Release(pb.ReleaseRequest(worker_id=request.worker_id, call=request.call))
        except CoEError as error:
            _log.warning("cannot withdraw an acquire call", expert=request.expert_id, reason=error.message)
        try:
            lease = (await asking).lease
            with calls():
                await self._manager.Release(pb.ReleaseRequest(worker_id=request.worker_id, lease_id=lease.lease_id))
        except CoEError as error:
            _log.info("withdrawn acquire call ended", expert=request.expert_id, reason=error.message)
        finally:
            asking.cancel()

    async def _connect(self, path: str) -> None:
        self._disconnect()
        if not path:
            return
        try:
            self._socket = await LeaseSocket.connect(path)
        except OSError as error:
            _log.info("cannot reach the manager's lease socket: using gRPC for leases", reason=str(error))

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _too_long(self, expert_id: str, reason: str) -> TierLoadError:
        message = f"no lease on the weights of {expert_id} within {self._acquire_timeout_s:.0f} s: {reason}"
        return TierLoadError(message, expert_id=expert_id)


def _forecast(uses: Sequence[NextUse]) -> list[pb.NextUse]:
    return [pb.NextUse(expert_id=use.expert, in_s=use.in_s, probability=use.probability) for use in uses]


def _residency(expert: pb.ExpertResidency) -> Residency:
    if expert.tier != pb.TIER_HBM:
        return Residency.ABSENT
    if expert.state == pb.RESIDENCY_STATE_LOADING:
        return Residency.LOADING
    if expert.state == pb.RESIDENCY_STATE_EVICTING and expert.leases:
        return Residency.LEAVING
    return Residency.RESIDENT if expert.state == pb.RESIDENCY_STATE_RESIDENT else Residency.ABSENT


async def _again(what: str, work: Callable[[], Awaitable[None]]) -> NoReturn:
    """Runs `work` until cancelled, restarting it with backoff when it returns or raises CoEError."""
    delay = _FIRST_RETRY_S
    last = ""
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await work()
            reason = "it ended"
        except CoEError as error:
            reason = error.message
        if asyncio.get_running_loop().time() - began > _MAX_RETRY_S:
            delay, last = _FIRST_RETRY_S, ""
        if reason != last:
            _log.warning(f"{what} broke", reason=reason)
            last = reason
        await asyncio.sleep(delay)
        delay = min(2 * delay, _MAX_RETRY_S)
