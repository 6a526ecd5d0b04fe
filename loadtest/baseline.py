"""Compares a run with an earlier one, relative to the time that the machine needs for a fixed piece of work.

This makes baselines meaningful on other machines, and keeps a busy machine from looking like a regression.
"""

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from loadtest.loadprofile import Bounds
from loadtest.report import Result

BASELINES = Path(__file__).with_name("baselines")
CPU = "CPU a prompt"
# The cost of processes below this share of the total is indistinguishable from noise.
_LEAST_SHARE = 0.05
_ROUNDS = 15
_WORK = bytes(1 << 20)


@dataclass(frozen=True)
class Speed:
    """Milliseconds for a fixed piece of work on one core: CPU time, and wall time, which other load lengthens."""

    cpu_ms: float
    wall_ms: float


def speed() -> Speed:
    """The current speed: medians of several rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        wall, cpu = time.perf_counter(), time.thread_time()
        blake2b(_WORK).digest()
        rounds.append((time.thread_time() - cpu, time.perf_counter() - wall))
    cpu_s, wall_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Speed(cpu_s * 1000, wall_s * 1000)


def between(before: Speed, after: Speed) -> Speed:
    return Speed((before.cpu_ms + after.cpu_ms) / 2, (before.wall_ms + after.wall_ms) / 2)


def figures(result: Result, unit: Speed) -> dict[str, float]:
    """Returns figures to compare, in units of `unit`: median latencies, and CPU of the stack and its larger processes.

    Smaller is better. High percentiles are left out, because on a shared machine they mostly reflect other users.
    Latencies are left out entirely if the generator itself was late.
    """
    latencies = {} if result.note else result.summary.latency_ms
    found = {
        f"{name} p50": latencies[name]["p50"] / unit.wall_ms for name in ("total", "first_text") if name in latencies
    }
    if (whole := result.cpu_ms_per_prompt) is not None:
        found[CPU] = whole / unit.cpu_ms
        for name, spent in sorted(result.stack_cpu_ms.items()):
            if spent >= _LEAST_SHARE * whole:
                found[f"{CPU}, {name}"] = spent / unit.cpu_ms
    return {name: round(value, 3) for name, value in found.items()}


def path(result: Result, folder: Path = BASELINES) -> Path:
    """The baseline file. A stack elsewhere, whose CPU is unknown, has a separate one."""
    where = "" if result.cost else "-elsewhere"
    return folder / f"{result.profile.name}-{result.transport}{where}.json"


def save(file: Path, found: Mapping[str, float]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n")


def ratios(file: Path, found: Mapping[str, float]) -> dict[str, float]:
    """Current figures divided by the baseline's, for those present in both. Empty without a baseline."""
    if not file.exists():
        return {}
    then = json.loads(file.read_text())
    return {name: value / then[name] for name, value in found.items() if then.get(name)}


def accepted(name: str, bounds: Bounds) -> float:
    """The highest ratio of this figure that does not count as a regression."""
    return bounds.most_regression if name.startswith(CPU) else bounds.most_slowdown


def regressions(compared: Mapping[str, float], bounds: Bounds) -> list[str]:
    """A complaint for each figure that exceeds its baseline by more than its bound."""
    return [
        f"{name} is {ratio:.2f} times its baseline"
        for name, ratio in compared.items()
        if ratio > accepted(name, bounds)
    ]
