"""The worker process: wiring and lifecycle."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial

import grpc.aio
import uvloop

from coe._proto import expert_worker_pb2_grpc
from coe._proto import memory_tier_manager_pb2 as tiers_pb
from coe.expert_worker import echo
from coe.expert_worker.bound_arena import BoundArena
from coe.expert_worker.expected import Expected
from coe.expert_worker.hosted import HostedExperts
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runner, Runners
from coe.expert_worker.servicer import ExpertWorkerServicer
from coe.expert_worker.settings import WorkerSettings
from coe.expert_worker.tier_client import TierClient
from coe.expert_worker.watchdog import Watchdog
from coe.expert_worker.worker import Worker
from coe.experts import activation_bits
from coe.experts.engine import Engine
from coe.native import lease_handle
from coe.platform import logs, topics
from coe.platform.bus.api import Subscription
from coe.platform.bus.kafka import KafkaBus
from coe.platform.residency import ResidencyPublisher
from coe.platform.service import run
from coe.platform.settings import CoreSettings
from coe.scheduling import Exponential, LearnedCosts, make_policy

_log = logs.get(__name__)


class ExpertWorkerService:
    """Owns the bus, the engine, the tier client and the worker."""

    name = "expert-worker"

    def __init__(self, core: CoreSettings, settings: WorkerSettings) -> None:
        self._settings = settings
        self._bus = KafkaBus(core.kafka_bootstrap, source=f"coe/expert-worker/{settings.id}")
        self._hosted = HostedExperts(core.experts_dir, allow_echo=settings.allow_echo)
        self._engine: Engine | None = None
        self._tiers = TierClient(
            settings.tier_manager,
            settings.id,
            lease_handle,
            acquire_timeout_s=settings.acquire_timeout_s,
            bundle_of=self._hosted.bundle,
        )
        # The worker publishes only its own queues, which have no epoch; the tier manager publishes residency.
        self._residency = ResidencyPublisher(core.redis_url, core.node, epoch=0)
        self._arena = BoundArena()
        costs = LearnedCosts(self._hosted.weight_bytes, settings.max_batch)
        self._worker = Worker(
            self._bus,
            echo.LeasesWithEcho(self._tiers),
            Runners(self._make_runner, self._hosted.check, tenants_apart=settings.shared_past == "tenant"),
            WorkerLoop(
                make_policy(settings.policy, max_wait=settings.max_wait_s),
                Expected(costs, Exponential(), settings.max_batch),
                max_batch=settings.max_batch,
                chunk_s=settings.chunk_s,
            ),
            Identity(settings.id, core.node),
            Subscription(topics.ASSIGNMENTS, settings.group, max_in_flight=settings.max_in_flight),
            known=self._hosted.check,
            on_queue=partial(self._residency.publish_queue, settings.id),
            max_prompt_bytes=core.max_prompt_bytes,
            max_attempts=settings.max_attempts,
            watchdog=Watchdog(settings.step_timeout_s, worker=settings.id),
        )
        self._worker_run: asyncio.Task[None] | None = None
        # Kept until the last sequence has ended, because leases end with the attach stream.
        self._links: list[asyncio.Task[None]] = []
        self._open = AsyncExitStack()

    def register(self, server: grpc.aio.Server) -> list[str]:
        servicer = ExpertWorkerServicer(self._worker, self._hosted, drain_grace_s=self._settings.grace_s)
        expert_worker_pb2_grpc.add_ExpertWorkerServicer_to_server(servicer, server)
        return ["coe.v1.ExpertWorker"]

    async def start(self) -> None:
        """Raises ArtifactError when the native library is missing."""
        settings = self._settings
        if activation_bits.used(settings.activation_bits) != settings.activation_bits:
            _log.warning("activations keep 16 bits: 8 would not be faster on this processor")
        self._engine = Engine(
            threads=settings.threads,
            kv_bytes=settings.kv_bytes,
            max_batch=settings.max_batch,
            kv_format=settings.kv_format,
            activation_bits=settings.activation_bits,
            guesses=settings.guesses,
        )
        await self._bus.start()
        self._open.push_async_callback(self._bus.stop)
        await self._open.enter_async_context(self._residency)
        await self._open.enter_async_context(self._tiers.open())
        self._links = [
            asyncio.create_task(self._tiers.stay_attached(self._on_attached, self._on_broken)),
            asyncio.create_task(self._tiers.watch(self._worker.residency_changed)),
        ]
        self._worker_run = asyncio.create_task(self._worker.run())

    def tasks(self) -> list[Coroutine[object, object, None]]:
        return [self._watch()]

    async def healthy(self) -> bool:
        return self._tiers.attached and not self._worker.draining and await self._bus.healthy()

    async def stop(self) -> None:
        if self._worker_run is not None:
            await self._worker.drain(self._settings.grace_s)
            await asyncio.gather(self._worker_run, return_exceptions=True)
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        self._arena.close()
        await self._open.aclose()

    async def _watch(self) -> None:
        """Fails if the worker or a link fails. A drained worker keeps answering health checks."""
        assert self._worker_run is not None
        await asyncio.wait({self._worker_run, *self._links}, return_when=asyncio.FIRST_COMPLETED)
        for task in (self._worker_run, *self._links):
            if task.done():
                task.result()
        await asyncio.Event().wait()

    def _make_runner(self, expert_id: str) -> Runner:
        """In the engine's thread."""
        if expert_id == echo.EXPERT_ID:
            return echo.EchoRunner()
        assert self._engine is not None
        # `look`, not the bundle as last seen: its tokenizer is read from a file system that may be unresponsive.
        return self._engine.runner(self._hosted.look(expert_id))

    def _on_attached(self, response: tiers_pb.AttachResponse) -> None:
        self._worker.attached(response.epoch, response.tier_profile, lambda: self._arena.bind(response.arena))

    def _on_broken(self) -> None:
        """Called for every failed attempt, until a manager answers."""
        if self._arena.gone and not self._worker.draining:
            self._worker.between_steps(self._arena.let_go)


def main() -> None:
    # The engine waits for the event loop between two steps, and uvloop wakes up faster than asyncio's own loop.
    run(ExpertWorkerService(CoreSettings(), WorkerSettings()), uvloop.new_event_loop)


if __name__ == "__main__":
    main()
