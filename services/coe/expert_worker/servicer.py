"""The worker's gRPC service: lists its experts with their queues, and drains the worker."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import grpc.aio

from coe._proto import expert_worker_pb2 as pb
from coe._proto import expert_worker_pb2_grpc
from coe.expert_worker.loop import WorkerLoop
from coe.experts.bundle import Bundle

# Part of a caller's deadline reserved for returning the answer.
_ANSWER_S = 1.0


class Drainable(Protocol):
    """The part of the worker that gRPC callers can reach."""

    loop: WorkerLoop

    async def drain(self, grace_s: float) -> int: ...


class ExpertWorkerServicer(expert_worker_pb2_grpc.ExpertWorkerServicer):
    def __init__(self, worker: Drainable, catalogue: "Listing", *, drain_grace_s: float) -> None:
        self._worker = worker
        self._catalogue = catalogue
        self._drain_grace_s = drain_grace_s

    async def ListExperts(
        self,
        request: pb.ListExpertsRequest,
        context: grpc.aio.ServicerContext[pb.ListExpertsRequest, pb.ListExpertsResponse],
    ) -> pb.ListExpertsResponse:
        loop = self._worker.loop
        batch = loop.batch
        return pb.ListExpertsResponse(
            experts=[
                pb.WorkerExpert(
                    expert_id=bundle.id,
                    architecture=bundle.manifest.config.architecture,
                    params_b=bundle.manifest.parameters / 1e9,
                    weight_bytes=bundle.weights_bytes,
                    queued=loop.waiting.queues.depth(bundle.id),
                    running=len(batch.live) if batch is not None and batch.expert_id == bundle.id else 0,
                )
                for bundle in await asyncio.to_thread(self._catalogue.list)
            ]
        )

    async def Drain(
        self, request: pb.DrainRequest, context: grpc.aio.ServicerContext[pb.DrainRequest, pb.DrainResponse]
    ) -> pb.DrainResponse:
        """Drains within the caller's deadline, if there is one, so that the answer arrives in time."""
        left = context.time_remaining()
        grace_s = self._drain_grace_s if left is None else left - min(_ANSWER_S, left / 4)
        return pb.DrainResponse(finished=await self._worker.drain(grace_s))


class Listing(Protocol):
    def list(self) -> Iterable[Bundle]: ...
