"""Figures of an earlier run to compare with, in units of what the machine takes for a fixed piece of work.

So a baseline of one machine says something on another, and a busy day does not look like a regression.
"""

import json
import statistics
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from loadtest.report import Result

BASELINES = Path(__file__).with_name("baselines")
_ROUNDS = 15
_WORK = bytes(1 << 20)


def unit_ms() -> float:
    """Milliseconds of a fixed piece of work on one core, the median of some."""
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        blake2b(_WORK).digest()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def figures(result: Result, unit: float) -> dict[str, float]:
    """What is compared, in units: smaller is better. CPU of all processes, and latencies."""
    summary = result.summary
    found = {
        f"{name} {point}": summary.latency_ms[name][point] / unit
        for name in ("total", "first_text")
        for point in ("p50", "p99")
        if name in summary.latency_ms
    }
    if result.cost:
        found["CPU a prompt"] = sum(use["cpu_ms_per_prompt"] for use in result.cost.values()) / unit
    return {name: round(value, 2) for name, value in found.items()}


def path(result: Result, folder: Path = BASELINES) -> Path:
    return folder / f"{result.profile.name}-{result.transport}.json"


def save(file: Path, found: Mapping[str, float]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n")


def ratios(file: Path, found: Mapping[str, float]) -> dict[str, float]:
    """Now divided by then, for what both know. Empty without a baseline."""
    if not file.exists():
        return {}
    then = json.loads(file.read_text())
    return {name: value / then[name] for name, value in found.items() if then.get(name)}


def regressions(compared: Mapping[str, float], most: float) -> list[str]:
    """A complaint for each figure that costs more than `most` times its baseline."""
    return [f"{name} is {ratio:.2f} times its baseline" for name, ratio in compared.items() if ratio > most]
