"""`coe bench schedule`: the scheduling policies on real experts, over links of different speed.

The worker's own loop, engine and tier client run in this process, a memory-tier manager in its own; only the bus is in
memory. Each policy gets the same prompts, once all at the start (throughput, switches) and once at 0.9 of the rate that
`samba-coe` sustained (waits).
"""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from coe._proto import common_pb2, events_pb2, memory_tier_manager_pb2, memory_tier_manager_pb2_grpc
from coe.cli.bench_tiers import manager, replicas
from coe.cli.console import err, print_json
from coe.expert_worker.expected import Expected
from coe.expert_worker.hosted import HostedExperts
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runners
from coe.expert_worker.tier_client import TierClient
from coe.expert_worker.worker import Worker
from coe.experts.engine import Engine
from coe.memory_tier_manager.extents import ALIGNMENT
from coe.native import HbmArena, lease_handle
from coe.platform import topics
from coe.platform.bus import codec
from coe.platform.bus.api import Outgoing, Subscription
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.errors import TierLoadError
from coe.platform.rpc.client import channel
from coe.scheduling import Exponential, LearnedCosts, make_policy
from coe.simulation.trace import Trace, make_trace

EXPERTS, ROOM = 48, 8
# The socket's HBM reads nine times as fast as its DDR: 1.8 TB/s to 200 GB/s (arXiv 2405.07518).
DDR_TO_HBM = 9
NVME_BYTES_PER_S = 1.0e9
TIMEOUT_S = 1800.0
TOPICS = ("bridges", "enzymes", "contracts", "integrals", "bonds", "sonnets", "compilers", "glaciers")
BASELINE = "samba-coe"


@dataclass(frozen=True, slots=True)
class Figures:
    """`cpu_s_per_prompt` is the worker's: steadier than throughput on a machine that others use too."""

    prompts_s: float
    tokens_s: float
    cpu_s_per_prompt: float
    switches: int
    bytes_moved: int
    waits: list[float]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs share."""

    home: Path
    hosted: HostedExperts
    engine: Engine
    max_batch: int
    max_wait_s: float
    hbm_bytes: int


def read_bandwidth() -> float:
    """Bytes a second that this machine reads from memory, by one thread's sum over 512 MiB (best of three)."""
    data = np.zeros(64 << 20)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - began)
    return data.nbytes / best


def links(names: Sequence[str]) -> dict[str, float]:
    """Bytes a second into HBM; 0: as fast as the machine copies."""
    speeds = {"host": 0.0, "nvme": NVME_BYTES_PER_S}
    if "sn40l" in names:
        speeds["sn40l"] = read_bandwidth() / DDR_TO_HBM
    return {name: speeds[name] for name in names}


async def run(
    prompts: int,
    link_names: Sequence[str],
    traces: Sequence[str],
    policies: Sequence[str],
    *,
    max_batch: int,
    max_wait_s: float,
    threads: int,
    paced: bool,
    as_json: bool,
) -> None:
    policies = [BASELINE, *(name for name in policies if name != BASELINE)]
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        home = Path(folder)
        names = await asyncio.to_thread(replicas, home, EXPERTS)
        hosted = HostedExperts(home / "experts", allow_echo=False)
        taken = -(-hosted.weight_bytes(names[0]) // ALIGNMENT) * ALIGNMENT
        setting = Setting(
            home,
            hosted,
            Engine(threads=threads, kv_bytes=512 << 20, max_batch=max_batch),
            max_batch,
            max_wait_s,
            ROOM * taken,
        )
        runs = []
        for link, speed in links(link_names).items():
            for kind in traces:
                trace = make_trace(kind, prompts, EXPERTS, seed=7)
                trace = replace(trace, experts=[names[int(name.rsplit("-", 1)[1])] for name in trace.experts])
                report = await _compare(setting, trace, speed, policies, paced)
                runs.append({"trace": kind, "link": link, "policies": report})
                _show(kind, link, report)
        if as_json:
            print_json({"bench": "schedule", "prompts": prompts, "runs": runs})


async def _compare(
    setting: Setting, trace: Trace, speed: float, policies: Sequence[str], paced: bool
) -> dict[str, dict[str, float]]:
    report: dict[str, dict[str, float]] = {}
    rate = 0.0
    for policy in policies:
        figures = await _serve(setting, trace.paced(0), speed, policy)
        if policy == BASELINE:
            rate = 0.9 * figures.prompts_s
        report[policy] = {
            "prompts_s": figures.prompts_s,
            "tokens_s": figures.tokens_s,
            "cpu_s_per_prompt": figures.cpu_s_per_prompt,
            "switches": figures.switches,
            "bytes_moved": figures.bytes_moved,
        }
    for policy in policies if paced else ():
        waits = (await _serve(setting, trace.paced(rate), speed, policy)).waits
        for name, share in (("p50_wait_s", 50), ("p99_wait_s", 99), ("max_wait_s", 100)):
            report[policy][name] = float(np.percentile(waits, share))
    return report


async def _serve(setting: Setting, trace: Trace, speed: float, policy_name: str) -> Figures:
    policy = make_policy(policy_name, max_wait=setting.max_wait_s)
    with manager(setting.home, hbm_bytes=setting.hbm_bytes, link=speed, eviction=policy.eviction) as address:
        broker = MemoryBroker()
        # One partition: prompts come in the order of the trace, as they would to a worker that keeps up.
        broker.create(topics.ASSIGNMENTS, 1)
        bus = MemoryBus(broker)
        async with _worker(setting, bus, address, policy_name) as client:
            began, cpu_began = time.monotonic(), time.process_time()
            produce = asyncio.create_task(_produce(bus, trace, began))
            done = await _completions(bus, len(trace))
            seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
            await produce
            loads = await _bytes_in(client)
    failed = [one.error.message for one in done if one.WhichOneof("outcome") == "error"]
    if failed:
        raise TierLoadError(f"{len(failed)} prompts failed, the first: {failed[0]}")
    tokens = sum(one.usage.completion_tokens for one in done)
    nbytes = setting.hosted.weight_bytes(trace.experts[0])
    waits = [one.timings.queue_s + one.timings.load_s for one in done]
    return Figures(len(trace) / seconds, tokens / seconds, cpu_s / len(trace), round(loads / nbytes), loads, waits)


@asynccontextmanager
async def _worker(setting: Setting, bus: MemoryBus, address: str, policy: str) -> AsyncIterator[str]:
    client = TierClient(address, "bench", lease_handle, acquire_timeout_s=120.0)
    costs = LearnedCosts(setting.hosted.weight_bytes, setting.max_batch)
    arenas: list[HbmArena] = []
    worker = Worker(
        bus,
        client,
        Runners(lambda expert: setting.engine.runner(setting.hosted.bundle(expert))),
        WorkerLoop(
            make_policy(policy, max_wait=setting.max_wait_s),
            Expected(costs, Exponential(), setting.max_batch),
            max_batch=setting.max_batch,
        ),
        Identity("bench", "bench"),
        Subscription(topics.ASSIGNMENTS, "bench", max_in_flight=100_000),
        known=setting.hosted.check,
        on_depths=lambda depths: None,
        max_prompt_bytes=1 << 20,
    )

    def bind(name: str) -> None:
        arenas.append(HbmArena.attach(name))
        arenas[-1].bind()

    def attached(response: memory_tier_manager_pb2.AttachResponse) -> None:
        worker.attached(response.epoch, response.tier_profile, partial(bind, response.arena))

    async with client.open():
        links = [
            asyncio.create_task(client.stay_attached(attached)),
            asyncio.create_task(client.watch(worker.residency_changed)),
        ]
        running = asyncio.create_task(worker.run())
        try:
            yield address
        finally:
            await worker.drain(10.0)
            await running
            for link in links:
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)
            for arena in arenas:
                arena.close()


async def _produce(bus: MemoryBus, trace: Trace, began: float) -> None:
    for index, (arrival, expert) in enumerate(zip(trace.arrivals, trace.experts, strict=True)):
        delay = began + arrival - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        subject = TOPICS[index % len(TOPICS)]
        prompt = events_pb2.PromptSubmitted(
            request_id=str(index),
            prompt=f"Tell me something about {subject}, number {index}.",
            sampling=common_pb2.SamplingParams(max_tokens=trace.output_tokens[index]),
            submitted_at_ms=time.time_ns() // 1_000_000,
        )
        assignment = common_pb2.Assignment(expert_id=expert, mapped_expert=expert, reason="requested")
        message = events_pb2.PromptAssigned(prompt=prompt, assignment=assignment)
        await bus.post(Outgoing(topics.ASSIGNMENTS, expert, message))


async def _completions(bus: MemoryBus, count: int) -> list[events_pb2.PromptCompleted]:
    done: list[events_pb2.PromptCompleted] = []
    logs = bus.broker.partitions(topics.COMPLETIONS)
    seen = [0] * len(logs)
    async with asyncio.timeout(TIMEOUT_S):
        while len(done) < count:
            for partition, log in enumerate(logs):
                for record in log[seen[partition] :]:
                    done.append(codec.decode(record, events_pb2.PromptCompleted))
                seen[partition] = len(log)
            if len(done) < count:
                await bus.broker.change()
    return done


async def _bytes_in(address: str) -> int:
    async with channel(address) as connection:
        stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
        listed = await stub.ListResidency(memory_tier_manager_pb2.ListResidencyRequest())
    return next(usage.bytes_in for usage in listed.tiers if usage.tier == memory_tier_manager_pb2.TIER_HBM)


def _show(kind: str, link: str, report: dict[str, dict[str, float]]) -> None:
    base = report[BASELINE]
    for policy, found in report.items():
        waits = json.dumps({name: round(value, 2) for name, value in found.items() if name.endswith("wait_s")})
        ratio, switches = found["prompts_s"] / base["prompts_s"], found["switches"]
        err.print(
            f"{kind:7} {link:6} {policy:10} {found['prompts_s']:6.2f} prompts/s (x{ratio:.2f}) "
            f"{found['cpu_s_per_prompt']:.3f} s CPU each, "
            f"{switches:4.0f} switches ({switches / base['switches']:.0%}) {waits}"
        )
