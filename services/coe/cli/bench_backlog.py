"""`coe bench backlog`: CPU per prompt in each process, by queue depth and number of workers.

Stacks with different numbers of workers run side by side, so that noise affects all of them alike. Each answers bursts
of echo prompts until enough have passed for the resolution of CPU clocks. Idle CPU is measured first and subtracted.
Results are medians over several rounds.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median

from coe.cli.bench_load import CLIENT, ECHO, ECHO_SETTINGS, Load, Running, started_stack, through
from coe.cli.console import err, out, print_json
from coe.cli.servers import quiet_logs
from coe.platform import topics
from coe.platform.errors import Unavailable

TOTAL = "total"
_IDLE_S = 8.0
# Prompts at once, and how often. The broker's JVM takes some thousand transactions to compile what they run: in the
# first thousand bursts of ten, a prompt costs up to 1.8 times as much as later.
_WARM_UP = ((10, 1000), (10_000, 2))
_LOAD = Load("echo", 0, ECHO)

Cost = Mapping[str, float]
"""CPU milliseconds per prompt by process, and TOTAL: of all processes but the client."""


@dataclass(frozen=True)
class Plan:
    """`prompts`: number per measurement and round, unless more are queued at once."""

    queued: Sequence[int]
    workers: Sequence[int]
    rounds: int
    prompts: int


@dataclass(frozen=True)
class Row:
    """`spread`: the total of the most expensive round over that of the cheapest."""

    workers: int
    queued: int
    cpu_ms_per_prompt: Cost
    spread: float


async def run(plan: Plan, as_json: bool) -> None:
    quiet_logs()
    rows = await _measure(plan)
    found = summary(rows)
    if as_json:
        for row in rows:
            print_json({"bench": "backlog", **asdict(row)})
        print_json({"bench": "backlog", **found})
        return
    for row in rows:
        costs = ", ".join(f"{name} {ms:.3f}" for name, ms in sorted(row.cpu_ms_per_prompt.items()))
        out.print(f"[bold]{row.workers} workers, {row.queued} queued[/bold]: CPU ms per prompt: {costs}")
    out.print(found)


async def _measure(plan: Plan) -> list[Row]:
    number = count()
    found: dict[tuple[int, int], list[Cost]] = {}
    async with AsyncExitStack() as open_:
        stacks: dict[int, Running] = {}
        for workers in plan.workers:
            home = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="coe-bench-")))
            stacks[workers] = await open_.enter_async_context(started_stack(home, workers, **ECHO_SETTINGS, **broker()))
            for prompts, times in _WARM_UP:
                await _burst(stacks[workers], prompts, times, number)
        idle = await _idle(stacks)
        for round_ in range(plan.rounds):
            for queued in plan.queued:
                for workers, stack in stacks.items():
                    cost = await _cost(stack, queued, max(1, plan.prompts // queued), idle[workers], number)
                    found.setdefault((workers, queued), []).append(cost)
                    err.print(f"[dim]round {round_ + 1}, {workers} workers, {queued} queued: {cost[TOTAL]:.3f}[/dim]")
    return [row(workers, queued, costs) for (workers, queued), costs in sorted(found.items())]


def broker() -> dict[str, str]:
    """Runs the broker as deployments do, with both of Java's compilers instead of only the fast-starting one."""
    return {"_JAVA_OPTIONS": f"{os.environ.get('_JAVA_OPTIONS', '')} -XX:TieredStopAtLevel=4"}


async def _cost(stack: Running, queued: int, bursts: int, idle: Cost, number: "count[int]") -> Cost:
    before, started = stack.cpu_seconds(), time.perf_counter()
    await _burst(stack, queued, bursts, number)
    spent = difference(before, stack.cpu_seconds(), idle, time.perf_counter() - started)
    return per_prompt(spent, queued * bursts)


async def _burst(stack: Running, prompts: int, times: int, number: "count[int]") -> None:
    async with stack.bus.tail((topics.COMPLETIONS,)) as records:
        for _ in range(times):
            if errors := (await through(stack.bus, records, _LOAD, prompts, number)).errors:
                raise Unavailable(f"{errors} of {prompts} echoes failed, so their cost is meaningless")


async def _idle(stacks: Mapping[int, Running]) -> dict[int, dict[str, float]]:
    """CPU seconds per second of each process when idle."""
    before = {workers: stack.cpu_seconds() for workers, stack in stacks.items()}
    await asyncio.sleep(_IDLE_S)
    return {
        workers: {name: (spent - before[workers][name]) / _IDLE_S for name, spent in stack.cpu_seconds().items()}
        for workers, stack in stacks.items()
    }


def difference(before: Cost, after: Cost, idle: Cost, seconds: float) -> dict[str, float]:
    """CPU seconds between two samples, minus idle CPU."""
    return {
        name: max(0.0, spent - before.get(name, 0.0) - idle.get(name, 0.0) * seconds) for name, spent in after.items()
    }


def per_prompt(spent_s: Cost, prompts: int) -> dict[str, float]:
    found = {name: seconds * 1000 / prompts for name, seconds in spent_s.items()}
    return found | {TOTAL: sum(ms for name, ms in found.items() if name != CLIENT)}


def row(workers: int, queued: int, rounds: Sequence[Cost]) -> Row:
    """Medians per process, so their sum may differ from the total's median."""
    totals = [cost[TOTAL] for cost in rounds]
    medians = {name: round(median(cost[name] for cost in rounds), 4) for name in rounds[0]}
    return Row(workers, queued, medians, round(max(totals) / max(min(totals), 1e-9), 3))


def summary(rows: Sequence[Row]) -> dict[str, object]:
    """Returns how much the total varies with queue depth and with the number of workers.

    `by_workers`: for each number of workers, the most expensive over the cheapest queue depth. `by_queued`: for each
    queue depth, the same over numbers of workers. `growth`: the total at the deepest queue over that at each shallower
    one, the maximum over numbers of workers; above 1, cost grows with depth.
    """
    depths = sorted({row.queued for row in rows})
    longest = {row.workers: _total(row) for row in rows if row.queued == depths[-1]}
    return {
        "by_workers": {row.workers: _ratio(other for other in rows if other.workers == row.workers) for row in rows},
        "by_queued": {depth: _ratio(row for row in rows if row.queued == depth) for depth in depths},
        "growth": {
            depth: round(max(longest[row.workers] / _total(row) for row in rows if row.queued == depth), 3)
            for depth in depths[:-1]
        },
    }


def _total(row: Row) -> float:
    return row.cpu_ms_per_prompt[TOTAL]


def _ratio(rows: Iterable[Row]) -> float:
    totals = [_total(row) for row in rows]
    return round(max(totals) / min(totals), 3)
