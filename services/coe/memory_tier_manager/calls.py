"""Calls of the proto as events of the run loop, and its answers as messages: for gRPC and the lease socket alike."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from coe._proto import memory_tier_manager_pb2 as pb
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import views
from coe.memory_tier_manager.arena import Library
from coe.memory_tier_manager.profiles import TierProfile
from coe.memory_tier_manager.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Identity:
    """Which node this is. `epoch`: this life of its manager. `arena_epoch`: of the bytes, which may outlive a manager;
    leases are of it. `lease_socket`: its path, empty when there is none."""

    node: str
    epoch: int
    arena_epoch: int
    arena: str
    profile: TierProfile
    lease_socket: str = ""


class Calls:
    """Making an event raises ExpertNotFound."""

    def __init__(self, identity: Identity, runtime: Runtime, library: Library) -> None:
        self._identity = identity
        self._runtime = runtime
        self._library = library

    def acquire(self, request: pb.AcquireRequest, timeout_s: float | None) -> ev.Acquire:
        return ev.Acquire(
            self._runtime.next_request(),
            request.worker_id,
            request.expert_id,
            self._library.nbytes(request.expert_id),
            request.wait_until_resident,
            time.monotonic() + timeout_s if timeout_s is not None else float("inf"),
            _forecast(request.forecast),
        )

    def acquired(self, grant: fx.Grant) -> pb.AcquireResponse:
        return pb.AcquireResponse(
            lease=pb.Lease(
                lease_id=grant.lease,
                expert_id=grant.expert,
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
            ev.Held(lease.lease_id, lease.expert_id, lease.slot, lease.generation)
            for lease in request.held
            if lease.epoch == self._identity.arena_epoch
        )
        return ev.Attach(request.worker_id, attachment, tuple(held))

    def release(self, request: pb.ReleaseRequest) -> ev.Release:
        return ev.Release(request.worker_id, request.lease_id)

    def prefetch(self, request: pb.PrefetchRequest) -> ev.Prefetch:
        return ev.Prefetch(
            self._runtime.next_request(),
            request.worker_id,
            request.expert_id,
            self._library.nbytes(request.expert_id),
            request.may_evict,
            _forecast(request.forecast),
        )

    def prefetched(self, answer: fx.Prefetched) -> pb.PrefetchResponse:
        return pb.PrefetchResponse(started=answer.started, found_in=views.TIERS[answer.found_in])

    def pin(self, request: pb.PinRequest) -> ev.Pin:
        nbytes = self._library.nbytes(request.expert_id)
        return ev.Pin(self._runtime.next_request(), request.expert_id, nbytes, request.pinned)


def _forecast(uses: Iterable[pb.NextUse]) -> tuple[ev.Use, ...]:
    return tuple([ev.Use(use.expert_id, use.in_s, use.probability) for use in uses])
