"""Converts protobuf requests to run-loop events, and its answers to protobuf; shared by gRPC and the lease socket."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from coe._proto import memory_tier_manager_pb2 as pb
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import views
from coe.memory_tier_manager.profiles import TierProfile
from coe.memory_tier_manager.runtime import Runtime
from coe.memory_tier_manager.versions import Version, Versions, name_of


@dataclass(frozen=True, slots=True)
class Identity:
    """The node and its manager. `epoch` identifies this manager process. `arena_epoch` identifies the arena's contents,
    which may outlive a manager; leases belong to it. `lease_socket`: its path, empty if there is none."""

    node: str
    epoch: int
    arena_epoch: int
    arena: str
    profile: TierProfile
    lease_socket: str = ""


class Calls:
    """Methods that make events raise CoEError: ExpertNotFound, or TierLoadError if a file system is unresponsive."""

    def __init__(self, identity: Identity, runtime: Runtime, versions: Versions) -> None:
        self._identity = identity
        self._runtime = runtime
        self._versions = versions

    def acquire_known(self, request: pb.AcquireRequest, timeout_s: float | None) -> ev.Acquire | None:
        """The event, or None if the expert must first be looked up on disk (`acquire`)."""
        version = self._versions.known(request.expert_id, request.weights)
        return self._acquire(request, version, timeout_s) if version is not None else None

    async def acquire(self, request: pb.AcquireRequest, timeout_s: float | None) -> ev.Acquire:
        began = time.monotonic()
        version = await self._versions.current(request.expert_id, request.weights)
        left_s = None if timeout_s is None else timeout_s - (time.monotonic() - began)
        return self._acquire(request, version, left_s)

    def _acquire(self, request: pb.AcquireRequest, version: Version, timeout_s: float | None) -> ev.Acquire:
        return ev.Acquire(
            self._runtime.next_request(),
            request.worker_id,
            version.key,
            version.nbytes,
            request.wait_until_resident,
            time.monotonic() + timeout_s if timeout_s is not None else float("inf"),
            self._forecast(request.forecast),
        )

    def acquired(self, grant: fx.Grant) -> pb.AcquireResponse:
        return pb.AcquireResponse(
            lease=pb.Lease(
                lease_id=grant.lease,
                expert_id=name_of(grant.expert),
                slot=grant.slot,
                generation=grant.generation,
                epoch=self._identity.arena_epoch,
            ),
            found_in=views.TIERS[grant.found_in],
            bytes_to_copy=grant.copied,
            wait_s=grant.waited_s,
            modelled_copy_s=self._identity.profile.modelled_copy_s(grant.found_in, grant.copied),
        )

    def attach(self, request: pb.AttachRequest, attachment: int) -> ev.Attach:
        held = (
            ev.Held(lease.lease_id, self._versions.key(lease.expert_id), lease.slot, lease.generation)
            for lease in request.held
            if lease.epoch == self._identity.arena_epoch
        )
        return ev.Attach(request.worker_id, attachment, tuple(held))

    def release(self, request: pb.ReleaseRequest) -> ev.Release:
        return ev.Release(request.worker_id, request.lease_id)

    def prefetch_known(self, request: pb.PrefetchRequest) -> ev.Prefetch | None:
        """The event, for an expert in HBM or loading into it; None if it must first be looked up on disk."""
        version = self._versions.seen(request.expert_id)
        return self._prefetch(request, version) if version is not None and self._runtime.has(version.key) else None

    async def prefetch(self, request: pb.PrefetchRequest) -> ev.Prefetch:
        known = self.prefetch_known(request)
        return known or self._prefetch(request, await self._versions.current(request.expert_id))

    def _prefetch(self, request: pb.PrefetchRequest, version: Version) -> ev.Prefetch:
        return ev.Prefetch(
            self._runtime.next_request(),
            request.worker_id,
            version.key,
            version.nbytes,
            request.may_evict,
            self._forecast(request.forecast),
        )

    def prefetched(self, answer: fx.Prefetched) -> pb.PrefetchResponse:
        return pb.PrefetchResponse(started=answer.started, found_in=views.TIERS[answer.found_in])

    async def pin(self, request: pb.PinRequest) -> ev.Pin:
        expert = request.expert_id
        version = await self._versions.current(expert) if request.pinned else self._versions.last(expert)
        return ev.Pin(self._runtime.next_request(), version.key, version.nbytes, request.pinned)

    def _forecast(self, uses: Iterable[pb.NextUse]) -> tuple[ev.Use, ...]:
        key = self._versions.key
        return tuple([ev.Use(key(use.expert_id), use.in_s, use.probability) for use in uses])
