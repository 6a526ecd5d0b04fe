"""Runs a real node without Kafka, to serve a trace as the simulator's node does but with measured times.

The worker's loop, engine and tier client run in this process, the memory-tier manager in its own, and prompts arrive
over an in-memory bus.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from coe._proto import common_pb2, events_pb2, memory_tier_manager_pb2, memory_tier_manager_pb2_grpc
from coe.bench.meter import Meter, Metered
from coe.bench.questions import alike
from coe.bench.tiers import manager
from coe.expert_worker.batch import CHUNK_S
from coe.expert_worker.expected import Expected
from coe.expert_worker.hosted import HostedExperts
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runners
from coe.expert_worker.tier_client import TierClient
from coe.expert_worker.worker import Worker
from coe.experts.activation_bits import ActivationBits
from coe.experts.engine import Engine
from coe.memory_tier_manager.extents import rounded
from coe.native import HbmArena, lease_handle
from coe.platform import topics
from coe.platform.bus import codec
from coe.platform.bus.api import Outgoing, Subscription
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.errors import TierLoadError
from coe.platform.rpc.client import channel
from coe.scheduling import Exponential, LearnedCosts, make_policy
from coe.simulation.trace import Trace

TIMEOUT_S = 1800.0
ATTACH_S = 30.0
# Seconds between checks for completions.
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs share. `hbm_bytes`: the size of the manager's arena. `part_share`: the manager's setting."""

    home: Path
    hosted: HostedExperts
    threads: int
    max_batch: int
    max_wait_s: float
    hbm_bytes: int
    part_share: float = 0.0
    kv_bytes: int = 512 << 20
    activation_bits: ActivationBits = 16

    def engine(self) -> Engine:
        """Returns a new, warmed-up engine.

        Runs ask the same prompts, so they must not share cached KV, either to their benefit or their cost. All experts
        have the same layout, so one of them warms up for all.
        """
        engine = Engine(
            threads=self.threads,
            kv_bytes=self.kv_bytes,
            max_batch=self.max_batch,
            activation_bits=self.activation_bits,
        )
        engine.warm_up(self.hosted.list()[0])
        return engine


def prepare(home: Path, expert: str, *, room: float, threads: int, max_batch: int, max_wait_s: float) -> Setting:
    """Returns a setting for the experts in `home`, all as large as `expert`. HBM holds `room` of them."""
    hosted = HostedExperts(home / "experts", allow_echo=False)
    return Setting(home, hosted, threads, max_batch, max_wait_s, int(room * rounded(hosted.weight_bytes(expert))))


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of a trace, in seconds; sequences are by prompt, in trace order.

    `waits` end when a prompt's first step starts, `first_tokens` when its answer has its first token.
    """

    seconds: float
    cpu_s: float
    bytes_moved: int
    switches: int
    waits: Sequence[float]
    first_tokens: Sequence[float]
    latencies: Sequence[float]
    output_tokens: list[int]
    meter: Meter

    @property
    def prompts_s(self) -> float:
        return len(self.waits) / self.seconds


@dataclass(frozen=True, slots=True)
class _Node:
    """`tasks`: the worker and its connections to the manager, which run until the context exits."""

    meter: Meter
    tasks: Sequence["asyncio.Task[None]"]


async def serve(
    setting: Setting,
    trace: Trace,
    policy_name: str,
    *,
    link: float,
    progress: Callable[[int], None],
    ask: Callable[[int], str] = alike,
) -> Answered:
    """Serves `trace` on a real node. Raises TierLoadError if a prompt fails.

    `link`: bytes per second into HBM; 0: as fast as the machine copies. `progress` is called with the number of new
    answers. `ask` makes the text of each prompt.
    """
    eviction = make_policy(policy_name).eviction
    with manager(
        setting.home, hbm_bytes=setting.hbm_bytes, link=link, eviction=eviction, part_share=setting.part_share
    ) as address:
        broker = MemoryBroker()
        # One partition, so that prompts arrive in trace order, as they would at a worker that keeps up.
        broker.create(topics.ASSIGNMENTS, 1)
        bus = MemoryBus(broker)
        async with _worker(setting, bus, address, policy_name) as node:
            began, cpu_began = time.monotonic(), time.process_time()
            produce = asyncio.create_task(_produce(bus, trace, ask, began))
            try:
                done = await completions(bus, len(trace), progress, [produce, *node.tasks])
            finally:
                produce.cancel()
            seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
            moved = await _bytes_in(address)
    failed = [one.error.message for one in done if one.WhichOneof("outcome") == "error"]
    if failed:
        raise TierLoadError(f"{len(failed)} prompts failed, the first: {failed[0]}")
    done.sort(key=lambda one: int(one.request_id))
    return Answered(
        seconds,
        cpu_s,
        moved,
        round(moved / setting.hosted.weight_bytes(trace.experts[0])),
        [one.timings.queue_s + one.timings.load_s for one in done],
        [one.timings.time_to_first_token_s for one in done],
        [one.timings.total_s for one in done],
        [one.usage.completion_tokens for one in done],
        node.meter,
    )


@asynccontextmanager
async def _worker(setting: Setting, bus: MemoryBus, address: str, policy: str) -> AsyncIterator[_Node]:
    meter = Meter()
    engine = setting.engine()
    client = TierClient(address, "bench", lease_handle, acquire_timeout_s=120.0)
    costs = LearnedCosts(setting.hosted.weight_bytes, setting.max_batch)
    arenas: list[HbmArena] = []
    worker = Worker(
        bus,
        client,
        # The experts are copies of one bundle, but each has its own prefix cache.
        Runners(lambda expert: Metered(expert, engine.runner(setting.hosted.bundle(expert), past=expert), meter)),
        WorkerLoop(
            make_policy(policy, max_wait=setting.max_wait_s),
            Expected(costs, Exponential(), setting.max_batch),
            max_batch=setting.max_batch,
            chunk_s=CHUNK_S,
        ),
        Identity("bench", "bench"),
        Subscription(topics.ASSIGNMENTS, "bench", max_in_flight=100_000),
        known=setting.hosted.check,
        on_queue=lambda depths, partitions: None,
        max_prompt_bytes=1 << 20,
    )

    def bind(name: str) -> None:
        arenas.append(HbmArena.attach(name))
        arenas[-1].bind()

    there = asyncio.Event()

    def attached(response: memory_tier_manager_pb2.AttachResponse) -> None:
        there.set()
        worker.attached(response.epoch, response.tier_profile, partial(bind, response.arena))

    async with client.open():
        links = [
            asyncio.create_task(client.stay_attached(attached)),
            asyncio.create_task(client.watch(worker.residency_changed)),
        ]
        running = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(ATTACH_S):
                await there.wait()
            yield _Node(meter, [running, *links])
        finally:
            await worker.drain(10.0)
            await asyncio.wait([running])
            for link in links:
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)
            for arena in arenas:
                arena.close()
        running.result()


async def _produce(bus: MemoryBus, trace: Trace, ask: Callable[[int], str], began: float) -> None:
    for index, (arrival, expert) in enumerate(zip(trace.arrivals, trace.experts, strict=True)):
        delay = began + arrival - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        prompt = events_pb2.PromptSubmitted(
            request_id=str(index),
            prompt=ask(index),
            sampling=common_pb2.SamplingParams(max_tokens=trace.output_tokens[index]),
            submitted_at_ms=time.time_ns() // 1_000_000,
        )
        assignment = common_pb2.Assignment(expert_id=expert, mapped_expert=expert, reason="requested")
        message = events_pb2.PromptAssigned(prompt=prompt, assignment=assignment)
        await bus.post(Outgoing(topics.ASSIGNMENTS, expert, message))


async def completions(
    bus: MemoryBus, count: int, progress: Callable[[int], None], tasks: Sequence["asyncio.Task[None]"]
) -> list[events_pb2.PromptCompleted]:
    """Waits for `count` completions. Raises the error of any of `tasks` that fails meanwhile."""
    done: list[events_pb2.PromptCompleted] = []
    logs = bus.broker.partitions(topics.COMPLETIONS)
    seen = [0] * len(logs)
    async with asyncio.timeout(TIMEOUT_S):
        while len(done) < count:
            before = len(done)
            for partition, log in enumerate(logs):
                done += [codec.decode(record, events_pb2.PromptCompleted) for record in log[seen[partition] :]]
                seen[partition] = len(log)
            progress(len(done) - before)
            for task in tasks:
                if task.done():
                    task.result()
            # Polled rather than awaited on every change, because this process is being measured.
            await asyncio.sleep(LOOK_S)
    return done


async def _bytes_in(address: str) -> int:
    async with channel(address) as connection:
        stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
        listed = await stub.ListResidency(memory_tier_manager_pb2.ListResidencyRequest())
    return next(usage.bytes_in for usage in listed.tiers if usage.tier == memory_tier_manager_pb2.TIER_HBM)
