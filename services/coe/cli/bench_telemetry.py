"""`coe bench telemetry`: the cost to the services of exporting traces and metrics.

Three stacks run side by side and answer the same bursts one after another, in an order that rotates each round: one
without an OTLP endpoint, one with it, and one with it that records every trace. A round's figures are the CPU time of
each stack's services over the whole round, so they include exports made while another stack works.

`with` over `without` is what a user sees at the speed and load of this machine. Traces are limited per second rather
than per prompt, so the ratio does not carry over to other speeds. `every` minus `without` has one trace per prompt and
gives the cost of a trace. Multiplied by COE_TRACES_PER_S, that is the share of the machine that traces take.
"""

import asyncio
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import psutil

from coe.cli.bench_collector import Received, collector
from coe.cli.bench_load import ECHO, ECHO_SETTINGS, Load, Running, started_stack, through
from coe.cli.console import err, out, print_json
from coe.cli.servers import quiet_logs
from coe.local.stackfile import StackInfo
from coe.platform import topics
from coe.platform.settings import CoreSettings

_WARM_UP = (10, 10, 2000)
_LOAD = Load("echo", 0, ECHO)
_DRAWS = 2000
_SHARE = 0.9
_EVERY = "1000000"

Round = tuple[float, float, float]
"""CPU seconds of the services: without an endpoint, with one, with every trace recorded."""


async def run(rounds: int, prompts: int, as_json: bool) -> None:
    quiet_logs()
    with collector() as some, collector() as every:
        found = await _rounds(rounds, prompts, (some, every))
        # The services have stopped, and on exit exported what was left.
        result: dict[str, object] = {
            "bench": "telemetry",
            "rounds": rounds,
            "prompts": prompts,
            **figures(found, prompts, CoreSettings().traces_per_s, os.cpu_count() or 1),
            "spans": {"with": some.spans, "every": every.spans},
            "points": some.points,
        }
    print_json(result) if as_json else out.print(result)


def figures(rounds: Sequence[Round], prompts: int, traces_per_s: float, cores: int) -> dict[str, object]:
    """Returns CPU time per prompt, the ratio of with to without, the cost of a trace, and its share of `cores`.

    Each interval is a 90 % bootstrap interval over rounds for the figure before it.
    """
    sums = dict(zip(("without", "with", "every"), _sums(rounds), strict=True))

    def ms_per_trace(drawn: Sequence[Round]) -> float:
        without, _, every = _sums(drawn)
        return (every - without) * 1000 / len(drawn) / prompts

    def ratio(drawn: Sequence[Round]) -> float:
        without, with_, _ = _sums(drawn)
        return with_ / without

    return {
        "cpu_ms_per_prompt": {name: round(s * 1000 / len(rounds) / prompts, 4) for name, s in sums.items()},
        "ratio": round(ratio(rounds), 4),
        "ratio_interval": interval(rounds, ratio),
        "ms_per_trace": round(ms_per_trace(rounds), 4),
        "ms_per_trace_interval": interval(rounds, ms_per_trace),
        "share_of_machine": round(ms_per_trace(rounds) * traces_per_s / 1000 / cores, 5),
    }


def _sums(rounds: Sequence[Round]) -> tuple[float, ...]:
    return tuple(sum(side) for side in zip(*rounds, strict=True))


def interval(rounds: Sequence[Round], figure: Callable[[Sequence[Round]], float]) -> tuple[float, float]:
    rng = random.Random(1)
    drawn = sorted(figure(rng.choices(rounds, k=len(rounds))) for _ in range(_DRAWS))
    beyond = int(_DRAWS * (1 - _SHARE) / 2)
    return round(drawn[beyond], 4), round(drawn[-1 - beyond], 4)


async def _rounds(rounds: int, prompts: int, received: tuple[Received, Received]) -> list[Round]:
    number = count()
    async with AsyncExitStack() as open_:
        some, every = received
        sides = [
            await _side(open_, COE_OTLP_ENDPOINT=""),
            await _side(open_, COE_OTLP_ENDPOINT=some.endpoint),
            await _side(open_, COE_OTLP_ENDPOINT=every.endpoint, COE_TRACES_PER_S=_EVERY),
        ]
        for side in sides:
            for warm_up in _WARM_UP:
                await _burst(side, warm_up, number)
        found: list[Round] = []
        for index in range(rounds):
            before = [_cpu_s(side.info) for side in sides]
            turn = index % len(sides)
            for side in sides[turn:] + sides[:turn]:
                await _burst(side, prompts, number)
            # The commits after the last answers belong to the round.
            await asyncio.sleep(0.5)
            without, with_, all_ = (_cpu_s(side.info) - then for side, then in zip(sides, before, strict=True))
            found.append((without, with_, all_))
            err.print(f"[dim]round {index + 1}: {with_ / without:.3f}, every {all_ / without:.3f}[/dim]")
    return found


async def _side(open_: AsyncExitStack, **settings: str) -> Running:
    home = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="coe-bench-")))
    return await open_.enter_async_context(started_stack(home, 1, **ECHO_SETTINGS, **settings))


async def _burst(side: Running, prompts: int, number: "count[int]") -> None:
    async with side.bus.tail((topics.COMPLETIONS,)) as records:
        await through(side.bus, records, _LOAD, prompts, number)


def _cpu_s(stack: StackInfo) -> float:
    """CPU seconds so far of the services only, as broker and Redis export no telemetry."""
    times = [psutil.Process(service.pid).cpu_times() for service in stack.services.values()]
    return sum(time.user + time.system for time in times)
