"""`coe bench pipeline`: prompts a second through the whole Kafka path, and what each process spends on one.

Three loads, all prompts submitted at once:
* `echo`: the worker gives the prompt back and the client names the expert: broker, bus and loops alone;
* `echo-routed`: the same behind the real router;
* `generate`: short answers of the packaged expert.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import psutil

from coe._proto import common_pb2, events_pb2
from coe.cli.bench_lag import settled
from coe.cli.console import err, print_json
from coe.cli.servers import quiet_logs
from coe.local.options import StackOptions
from coe.local.packaged import EXPERT_ID
from coe.local.stack import Stack
from coe.platform import topics
from coe.platform.bus.api import Outgoing, Record
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable

ECHO = "echo"
SUBJECTS = ("bridges", "enzymes", "contracts", "integrals", "bonds", "sonnets", "compilers", "glaciers")
TIMEOUT_S = 600.0
IDLE_PROMPTS = 30
WARM_UP_PROMPTS = 2000


@dataclass(frozen=True)
class Load:
    """`expert` names the expert in the prompt, empty: router and mapping choose."""

    name: str
    prompts: int
    expert: str
    max_tokens: int = 16


@dataclass(frozen=True)
class Result:
    """Seconds from the first submission to the last terminal event; idle: of one prompt alone in the stack.

    CPU is that of every process, this one too (`client`).
    """

    load: str
    prompts: int
    errors: int
    seconds: float
    prompts_s: float
    tokens_s: float
    idle_p50_ms: float
    # Records that a consumer group had not committed when it was over.
    lag: int
    cpu_ms_per_prompt: dict[str, float]


async def run(prompts: int, answers: int, workers: int, as_json: bool) -> None:
    quiet_logs()
    loads = (Load("echo", prompts, ECHO), Load("echo-routed", max(1, prompts // 10), ""))
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as home:
        with _environment(COE_WORKER_ALLOW_ECHO="1", COE_MAPPER_EXPERTS=json.dumps([ECHO])):
            await _stack(Path(home), workers, loads, as_json)
        if answers:
            await _stack(Path(home), workers, (Load("generate", answers, EXPERT_ID),), as_json)


async def _stack(home: Path, workers: int, loads: tuple[Load, ...], as_json: bool) -> None:
    options = StackOptions(home=home, workers=workers, replicas=1, log_level="WARNING")
    async with Stack(options, on_step=lambda what: err.print(f"[dim]{what}[/dim]")) as stack:
        bus = KafkaBus(stack.kafka_bootstrap, source="coe/bench", start_timeout_s=30)
        await bus.start()
        try:
            for load in loads:
                result = await _measure(bus, load, stack.kafka_bootstrap, stack.info.pid)
                if as_json:
                    print_json({"bench": "pipeline", "workers": workers, **asdict(result)})
                else:
                    _show(result)
        finally:
            await bus.stop()


async def _measure(bus: KafkaBus, load: Load, bootstrap: str, stack_pid: int) -> Result:
    number = count()
    async with bus.tail((topics.COMPLETIONS,)) as records:
        # The first prompts meet cold code everywhere, the broker's longest: they are not counted.
        for warm_up in (10, 10, min(load.prompts, WARM_UP_PROMPTS)):
            await _through(bus, records, load, warm_up, number)
        idle = sorted([(await _through(bus, records, load, 1, number)).seconds for _ in range(IDLE_PROMPTS)])
        before = _cpu(stack_pid)
        passed = await _through(bus, records, load, load.prompts, number)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in _cpu(stack_pid).items()}
    return Result(
        load.name,
        load.prompts,
        passed.errors,
        passed.seconds,
        load.prompts / passed.seconds,
        passed.tokens / passed.seconds,
        idle[len(idle) // 2] * 1000,
        await settled(bootstrap),
        {name: seconds * 1000 / load.prompts for name, seconds in spent.items()},
    )


@dataclass(frozen=True)
class Passed:
    seconds: float
    errors: int
    tokens: int


async def _through(
    bus: KafkaBus, records: AsyncIterator[Record], load: Load, prompts: int, number: "count[int]"
) -> Passed:
    """Submits so many prompts at once and waits for the terminal event of each."""
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


def _cpu(stack_pid: int) -> dict[str, float]:
    """CPU seconds so far of every process of the stack, by the package or program it runs."""
    spent = {"client": time.process_time()}
    for process in psutil.Process(stack_pid).children(recursive=True):
        try:
            times, name = process.cpu_times(), _name(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        spent[name] = spent.get(name, 0.0) + times.user + times.system
    return spent


def _name(command: list[str]) -> str:
    service = next((part for part in command if part.startswith("coe.") and part.endswith(".service")), None)
    if service is not None:
        return service.split(".")[1]
    return "kafka" if "kafka.Kafka" in command else Path(command[0].split()[0]).name if command else "?"


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """What the stack's processes inherit."""
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


def _show(result: Result) -> None:
    costs = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(result.cpu_ms_per_prompt.items(), key=lambda p: -p[1]))
    err.print(
        f"[bold]{result.load}[/bold]: {result.prompts_s:.0f} prompts/s ({result.prompts} in {result.seconds:.1f} s, "
        f"{result.errors} errors, {result.lag} left), {result.tokens_s:.0f} tokens/s, "
        f"alone {result.idle_p50_ms:.0f} ms; CPU ms a prompt: {costs}"
    )
