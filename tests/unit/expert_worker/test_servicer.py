"""The worker's gRPC service."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from coe._proto import expert_worker_pb2 as pb
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.servicer import ExpertWorkerServicer


class Worker:
    loop = cast("WorkerLoop", None)

    def __init__(self) -> None:
        self.graces: list[float] = []

    async def drain(self, grace_s: float) -> int:
        self.graces.append(grace_s)
        return 3


@pytest.mark.parametrize(("left", "grace"), [(None, 8.0), (20.0, 19.0), (0.5, 0.375), (0.0, 0.0)])
async def test_a_drain_is_answered_within_the_deadline(left: float | None, grace: float) -> None:
    worker = Worker()
    servicer = ExpertWorkerServicer(worker, cast("Any", None), drain_grace_s=8.0)
    context = cast("Any", SimpleNamespace(time_remaining=lambda: left))
    assert (await servicer.Drain(pb.DrainRequest(), context)).finished == 3
    assert worker.graces == [grace]
