"""Detects growth of resources and latency under load: compares the first quarter of the measured time with the last."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import median

import psutil

from coe.local.stackfile import StackInfo
from loadtest import cost
from loadtest.loadprofile import Bounds, Profile
from loadtest.recorder import Sample

MEMORY, FILES, THREADS, LATENCY = "MiB of memory", "open files", "threads", "ms until the answer"
COLUMNS = ("service", "resource", "first quarter", "last quarter", "ratio")
# Differences up to this are noise.
_NOISE = {MEMORY: 16.0, FILES: 16.0, THREADS: 4.0, LATENCY: 0.0}
# Number of samples during the measured time.
_LOOKS = 80


@dataclass(frozen=True, slots=True)
class Look:
    """Resources held by each service. `at_s` is measured from the start of the run."""

    at_s: float
    held: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth of one resource: its medians over the first and the last quarter."""

    who: str
    what: str
    first: float
    last: float

    @property
    def times(self) -> float:
        return self.last / self.first

    @property
    def row(self) -> tuple[str, ...]:
        """A table row for COLUMNS."""
        return self.who, self.what, f"{self.first:.0f}", f"{self.last:.0f}", f"{self.times:.2f}"


def growths(profile: Profile, looks: Sequence[Look], samples: Sequence[Sample]) -> list[Growth]:
    """Growth of each service present in both quarters, and of latency; empty unless the profile bounds it. Pure."""
    if profile.bounds.most_growth is None:
        return []
    series: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for look in looks:
        for who, held in look.held.items():
            for what, much in held.items():
                series[who, what].append((look.at_s, much))
    for sample in samples:
        if not sample.error and sample.done_s is not None:
            series["answers", LATENCY].append((sample.at_s, sample.done_s * 1000))
    begin, quarter_s = profile.measured_from_s, profile.measured_s / 4

    def middle(points: list[tuple[float, float]], quarter: int) -> float:
        values = [much for at_s, much in points if quarter <= (at_s - begin) / quarter_s < quarter + 1]
        return median(values) if values else 0.0

    found = [Growth(*name, middle(points, 0), middle(points, 3)) for name, points in sorted(series.items())]
    return [growth for growth in found if growth.first and growth.last]


def ended(looks: Sequence[Look]) -> list[str]:
    """Services whose process exited during the run, which released its resources. Pure."""
    return sorted(looks[0].held.keys() - looks[-1].held.keys()) if looks else []


def too_much(found: Sequence[Growth], bounds: Bounds) -> list[str]:
    """A complaint for each resource that grew beyond its bound."""
    lines = []
    for growth in found:
        bound = "most_slowdown" if growth.what == LATENCY else "most_growth"
        most = getattr(bounds, bound)
        if growth.times > most and growth.last - growth.first > _NOISE[growth.what]:
            lines.append(
                f"{growth.who}: {growth.last:.0f} {growth.what} in the last quarter, {growth.times:.2f} times the "
                f"{growth.first:.0f} of the first ({bound}: {most:g})"
            )
    return lines


@asynccontextmanager
async def watched(stack: StackInfo, profile: Profile) -> AsyncIterator[list[Look]]:
    """Yields a list that fills while the block runs.

    It holds no resources for a stack elsewhere, and stays empty unless the profile bounds growth.
    """
    looks: list[Look] = []
    if profile.bounds.most_growth is None:
        yield looks
        return
    watching = asyncio.create_task(_watch(stack, profile.measured_s / _LOOKS, looks))
    try:
        yield looks
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(stack: StackInfo, every_s: float, looks: list[Look]) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    while True:
        looks.append(Look(loop.time() - start, look(stack)))
        await asyncio.sleep(every_s)


def look(stack: StackInfo) -> dict[str, dict[str, float]]:
    """Returns the resources held by each service.

    Broker and Redis, which grow up to their own limits, and the generator, which keeps every answer, are left out.
    """
    found: dict[str, dict[str, float]] = {}
    processes = cost.processes(stack)
    for name in stack.services.keys() & processes.keys():
        process = processes[name]
        with suppress(psutil.Error), process.oneshot():
            memory = process.memory_info().rss / 2**20
            found[name] = {MEMORY: memory, FILES: process.num_fds(), THREADS: process.num_threads()}
    return found
