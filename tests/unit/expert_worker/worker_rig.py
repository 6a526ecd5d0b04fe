"""A worker on in-memory fakes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from coe._proto import events_pb2
from coe.expert_worker import echo
from coe.expert_worker.expected import Expected
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runners
from coe.expert_worker.watchdog import Watchdog
from coe.expert_worker.worker import Worker
from coe.platform import topics
from coe.platform.bus.api import Subscription
from coe.platform.errors import ExpertNotFound
from coe.scheduling import Exponential, LearnedCosts, make_policy
from support.deadlines import until_true
from unit.expert_worker.worker_fakes import WAIT_S, FakeBus, FakeLeases, FakeRunner


@dataclass
class Rig:
    bus: FakeBus = field(default_factory=FakeBus)
    leases: FakeLeases = field(default_factory=FakeLeases)
    gate: threading.Event = field(default_factory=threading.Event)
    runners: dict[str, FakeRunner] = field(default_factory=dict)
    depths: list[Mapping[str, int]] = field(default_factory=list)
    watchdog: Watchdog | None = None
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.gate.set()
        expected = Expected(LearnedCosts(lambda _: 10, 2), Exponential(), 2)
        self.worker = Worker(
            self.bus,  # type: ignore[arg-type]
            echo.LeasesWithEcho(self.leases),
            Runners(self._make),
            WorkerLoop(make_policy("lookahead"), expected, max_batch=2),
            Identity("w", "n"),
            Subscription(topics.ASSIGNMENTS, "g"),
            known=self._known,
            on_queue=lambda depths, partitions: self.depths.append(depths),
            max_prompt_bytes=1000,
            watchdog=self.watchdog,
        )

    def _make(self, expert_id: str) -> FakeRunner | echo.EchoRunner:
        if expert_id == "echo":
            return echo.EchoRunner()
        self.runners[expert_id] = FakeRunner(self.gate)
        return self.runners[expert_id]

    def _known(self, expert_id: str) -> str:
        if expert_id == "unknown":
            raise ExpertNotFound("no expert 'unknown' is hosted here")
        return ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        task = asyncio.create_task(self.worker.run())
        try:
            yield self
        finally:
            self.gate.set()
            await self.worker.drain(WAIT_S)
            await task


def assigned(request_id: str, text: str = "hi", expert: str = "a", **sampling: object) -> events_pb2.PromptAssigned:
    message = events_pb2.PromptAssigned(assignment={"expert_id": expert}, routing_s=0.25)
    message.prompt.request_id, message.prompt.prompt = request_id, text
    message.prompt.submitted_at_ms = time.time_ns() // 1_000_000
    for name, value in {"max_tokens": 3, **sampling}.items():
        setattr(message.prompt.sampling, name, value)
    return message


async def put_stuck(rig: Rig) -> int:
    """A prompt whose lease is waited for."""
    stuck = rig.bus.put(assigned("r"))
    async with asyncio.timeout(WAIT_S):
        await until_true(lambda: rig.leases.waiting)
    return stuck
