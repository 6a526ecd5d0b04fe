"""One real node without Kafka: the worker's own loop, engine and tier client here, a memory-tier manager in its own
process, prompts over a bus in memory. It serves a trace as the simulator's node does, with measured times.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, takewhile
from pathlib import Path

from coe._proto import common_pb2, events_pb2, memory_tier_manager_pb2, memory_tier_manager_pb2_grpc
from coe.bench.tiers import manager
from coe.expert_worker.effects import Emission
from coe.expert_worker.expected import Expected
from coe.expert_worker.hosted import HostedExperts
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runner, Runners
from coe.expert_worker.tier_client import TierClient
from coe.expert_worker.worker import Worker
from coe.experts.engine import Engine
from coe.experts.graph import KV_BLOCK_TOKENS
from coe.experts.sampling_params import SamplingParams
from coe.experts.tokenizer import ExpertTokenizer
from coe.memory_tier_manager.extents import ALIGNMENT
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
# How often completions are looked for.
LOOK_S = 0.005
SUBJECTS = ("bridges", "enzymes", "contracts", "integrals", "bonds", "sonnets", "compilers", "glaciers")


def question(index: int) -> str:
    """All of one length, but for the number's digits; no two alike."""
    return f"Tell me something about {SUBJECTS[index % len(SUBJECTS)]}, number {index}."


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs share. `hbm_bytes`: the budget of the manager's arena; `part_share`: the manager's setting."""

    home: Path
    hosted: HostedExperts
    threads: int
    max_batch: int
    max_wait_s: float
    hbm_bytes: int
    part_share: float = 0.0
    kv_bytes: int = 512 << 20

    def engine(self) -> Engine:
        """A new one: runs ask the same, and none may gain by what others computed, nor pay for their KV."""
        return Engine(threads=self.threads, kv_bytes=self.kv_bytes, max_batch=self.max_batch)


def prepare(home: Path, expert: str, *, room: float, threads: int, max_batch: int, max_wait_s: float) -> Setting:
    """For experts of the catalogue in `home`, all as large as this one; HBM holds `room` of them."""
    hosted = HostedExperts(home / "experts", allow_echo=False)
    taken = -(-hosted.weight_bytes(expert) // ALIGNMENT) * ALIGNMENT
    return Setting(home, hosted, threads, max_batch, max_wait_s, int(room * taken))


@dataclass(frozen=True, slots=True)
class Asked:
    """Tokens of prompts: of each, of what all begin with, and of what the two most alike begin with. Beginnings are in
    whole blocks of the KV cache: so much of a prompt is not computed again.
    """

    lengths: list[int]
    shared: int
    most_shared: int


def asked(setting: Setting, expert: str, prompts: int, ask: Callable[[int], str] = question) -> Asked:
    """The first so many prompts as this expert reads them."""
    tokenizer = ExpertTokenizer.of(setting.hosted.bundle(expert))
    ids = [tokenizer.encode_prompt(None, ask(index)) for index in range(prompts)]
    blocks = [tokens // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS for tokens in beginnings(ids)]
    return Asked([len(one) for one in ids], *blocks)


def beginnings(prompts: Sequence[list[int]]) -> tuple[int, int]:
    """Tokens that all of them begin with, and that the two most alike begin with."""
    ordered = sorted(prompts)
    # The first and the last are the least alike; those that are most alike are neighbours.
    return _common(ordered[0], ordered[-1]), max((_common(*pair) for pair in pairwise(ordered)), default=0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@dataclass(slots=True)
class Span:
    """A step of an expert: `sequences` it had, and prompts that it took in before, and in how many seconds.

    `begun`: sequences that had a token before.
    """

    expert: str
    sequences: int
    begun: int
    added: int
    adding_s: float
    began: float
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Meter:
    """The engine's steps."""

    spans: list[Span] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.spans)

    @property
    def sequences(self) -> int:
        return sum(span.sequences for span in self.spans)

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans)

    @property
    def lone(self) -> list[Span]:
        """Decode steps of one sequence."""
        return [span for span in self.spans if span.sequences == span.begun == 1]


def pitches(spans: Sequence[Span]) -> Iterator[tuple[Span, float]]:
    """Decode steps that another one of the same sequences follows, and the seconds from one's begin to the other's."""
    for one, following in pairwise(spans):
        if one.expert == following.expert and one.begun == one.sequences == following.begun == following.sequences:
            yield one, following.began - one.began


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a trace, by prompt in the order of the trace. Seconds.

    `waits` end when the prompt's first step begins, `first_tokens` when it has an answer's first token.
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


@dataclass
class _Metered:
    """A runner that counts."""

    expert: str
    runner: Runner
    meter: Meter
    added: int = 0
    adding_s: float = 0.0
    begun: set[str] = field(default_factory=set)

    @property
    def live(self) -> int:
        return self.runner.live

    def add(
        self, request_id: str, messages: list[dict[str, str]] | None, prompt: str | None, sampling: SamplingParams
    ) -> None:
        began = time.perf_counter()
        self.runner.add(request_id, messages, prompt, sampling)
        self.added += 1
        self.adding_s += time.perf_counter() - began

    def step(self, lease: int) -> Sequence[Emission]:
        span = Span(self.expert, self.runner.live, len(self.begun), self.added, self.adding_s, time.perf_counter())
        self.added, self.adding_s = 0, 0.0
        self.meter.spans.append(span)
        try:
            emissions = self.runner.step(lease)
        finally:
            span.ended = time.perf_counter()
        for one in emissions:
            (self.begun.add if one.finish_reason is None else self.begun.discard)(one.request_id)
        return emissions

    def cancel(self, request_id: str) -> None:
        self.runner.cancel(request_id)

    def close(self) -> None:
        self.runner.close()


@dataclass
class _Node:
    address: str
    meter: Meter = field(default_factory=Meter)


async def serve(
    setting: Setting,
    trace: Trace,
    policy_name: str,
    *,
    link: float,
    progress: Callable[[int], None],
    ask: Callable[[int], str] = question,
) -> Answered:
    """`link`: bytes a second into HBM, 0: as fast as the machine copies. `progress` hears of each answer. `ask` makes
    the prompts.

    Raises TierLoadError when a prompt fails.
    """
    eviction = make_policy(policy_name).eviction
    with manager(
        setting.home, hbm_bytes=setting.hbm_bytes, link=link, eviction=eviction, part_share=setting.part_share
    ) as address:
        broker = MemoryBroker()
        # One partition: prompts come in the order of the trace, as they would to a worker that keeps up.
        broker.create(topics.ASSIGNMENTS, 1)
        bus = MemoryBus(broker)
        async with _worker(setting, bus, address, policy_name) as node:
            began, cpu_began = time.monotonic(), time.process_time()
            produce = asyncio.create_task(_produce(bus, trace, ask, began))
            done = await _completions(bus, len(trace), progress)
            seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
            await produce
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
    node = _Node(address)
    engine = setting.engine()
    # The experts are copies of one: each computes for itself. The graph is built before anything is measured.
    engine.runner(setting.hosted.list()[0])
    client = TierClient(address, "bench", lease_handle, acquire_timeout_s=120.0)
    costs = LearnedCosts(setting.hosted.weight_bytes, setting.max_batch)
    arenas: list[HbmArena] = []
    worker = Worker(
        bus,
        client,
        Runners(lambda expert: _Metered(expert, engine.runner(setting.hosted.bundle(expert), past=expert), node.meter)),
        WorkerLoop(
            make_policy(policy, max_wait=setting.max_wait_s),
            Expected(costs, Exponential(), setting.max_batch),
            max_batch=setting.max_batch,
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
            yield node
        finally:
            await worker.drain(10.0)
            await running
            for link in links:
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)
            for arena in arenas:
                arena.close()


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


async def _completions(bus: MemoryBus, count: int, progress: Callable[[int], None]) -> list[events_pb2.PromptCompleted]:
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
            # Not at every change of the broker: this is the process that is measured.
            await asyncio.sleep(LOOK_S)
    return done


async def _bytes_in(address: str) -> int:
    async with channel(address) as connection:
        stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
        listed = await stub.ListResidency(memory_tier_manager_pb2.ListResidencyRequest())
    return next(usage.bytes_in for usage in listed.tiers if usage.tier == memory_tier_manager_pb2.TIER_HBM)
