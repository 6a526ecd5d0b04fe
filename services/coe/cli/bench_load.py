"""Shared by end-to-end benchmarks: sends prompts through a stack and measures the CPU time of its processes."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

from coe._proto import common_pb2, events_pb2
from coe.bench.questions import SUBJECTS
from coe.cli.console import err
from coe.local.options import StackOptions
from coe.local.stack import Stack
from coe.local.stackfile import StackInfo
from coe.platform import topics
from coe.platform.bus.api import Outgoing, Record
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable

ECHO = "echo"
# Settings of a stack whose only expert is `echo`.
ECHO_SETTINGS = {"COE_WORKER_ALLOW_ECHO": "1", "COE_MAPPER_EXPERTS": json.dumps([ECHO])}
# The same with a router that assigns this category to every prompt instead of classifying it.
FIXED_SETTINGS = ECHO_SETTINGS | {"COE_ROUTER_ALLOW_FIXED": "1", "COE_ROUTER_FIXED_CATEGORY": "math"}
CLIENT = "client"
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Load:
    """`expert`: the expert that prompts ask for. If empty, router and mapper choose."""

    name: str
    prompts: int
    expert: str
    max_tokens: int = 16


@dataclass(frozen=True)
class Running:
    """A stack, a started bus connected to it, and the package or program of each process by pid."""

    info: StackInfo
    bus: KafkaBus
    processes: dict[int, str]

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds so far, by package or program of the processes; this process is `client`."""
        spent = {CLIENT: time.process_time()}
        for pid, name in self.processes.items():
            times = psutil.Process(pid).cpu_times()
            spent[name] = spent.get(name, 0.0) + times.user + times.system
        return spent


@asynccontextmanager
async def started_stack(home: Path, workers: int, **settings: str) -> AsyncIterator[Running]:
    """Starts a separate stack that logs only warnings, with `settings` in its processes' environment."""
    options = StackOptions(home=home, workers=workers, replicas=1, log_level="WARNING")
    others = {process.pid for process in psutil.Process().children(recursive=True)}
    async with AsyncExitStack() as open_:
        with environment(**settings):
            stack = await open_.enter_async_context(
                Stack(options, on_step=lambda what: err.print(f"[dim]{what}[/dim]"))
            )
        bus = KafkaBus(stack.kafka_bootstrap, source="coe/bench", start_timeout_s=30)
        open_.push_async_callback(bus.stop)
        await bus.start()
        ours = (process for process in psutil.Process().children(recursive=True) if process.pid not in others)
        yield Running(stack.info, bus, {process.pid: _name(process.cmdline()) for process in ours})


@dataclass(frozen=True)
class Passed:
    seconds: float
    errors: int
    tokens: int


async def through(
    bus: KafkaBus, records: AsyncIterator[Record], load: Load, prompts: int, number: "count[int]"
) -> Passed:
    """Submits `prompts` prompts at once and waits for the terminal event of each."""
    started = time.perf_counter()
    waiting = set()
    for _ in range(prompts):
        prompt = _prompt(load, next(number))
        waiting.add(prompt.request_id)
        await bus.publisher.post(Outgoing(topics.PROMPTS, prompt.request_id, prompt))
    errors = tokens = 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while waiting:
                done = events_pb2.PromptCompleted.FromString((await anext(records)).value)
                if done.request_id in waiting:
                    waiting.discard(done.request_id)
                    errors += done.HasField("error")
                    tokens += done.usage.completion_tokens
    except TimeoutError:
        raise Unavailable(f"{len(waiting)} of {prompts} prompts had no answer after {TIMEOUT_S:.0f} s") from None
    return Passed(time.perf_counter() - started, errors, tokens)


def _prompt(load: Load, number: int) -> events_pb2.PromptSubmitted:
    subject = SUBJECTS[number % len(SUBJECTS)]
    return events_pb2.PromptSubmitted(
        request_id=f"bench-{load.name}-{os.getpid()}-{number}",
        prompt=f"Question {number}: what should a beginner know about {subject}?",
        expert_id=load.expert,
        sampling=common_pb2.SamplingParams(max_tokens=load.max_tokens),
        submitted_at_ms=time.time_ns() // 1_000_000,
    )


def _name(command: list[str]) -> str:
    service = next((part for part in command if part.startswith("coe.") and part.endswith(".service")), None)
    if service is not None:
        return service.split(".")[1]
    if "kafka.Kafka" in command:
        return "kafka"
    return Path(command[0].split()[0]).name if command else "?"


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets environment variables for the processes that the block starts."""
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
