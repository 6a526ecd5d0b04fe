"""`coe bench telemetry`: what exporting traces and metrics costs the services.

Three stacks side by side answer the same bursts in turn, the order changing with each round: one without an OTLP
endpoint, one with it, and one that has it and records every trace. A round's figures are the CPU of each stack's
services over the whole round: what is exported while another one works counts too.

`with` over `without` is what a user has, at the speed of this machine and beside whatever else runs on it. Traces are
bounded by the second and not by the prompt, so it says little about another speed. `every` over `without` has one trace
for each prompt, so it says what a trace costs; times COE_TRACES_PER_S that is the share of the machine that is gone.
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
        # The services have ended, and with that exported what they had.
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
    """CPU milliseconds a prompt; with over without; what a trace costs, and the share of `cores` that traces take.

    Intervals: between what the figure before lies nine times in ten, by drawing rounds anew.
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
            # The commits behind the last answers belong to the round.
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
    """CPU seconds so far of the services alone: broker and Redis know nothing of telemetry."""
    times = [psutil.Process(service.pid).cpu_times() for service in stack.services.values()]
    return sum(time.user + time.system for time in times)
