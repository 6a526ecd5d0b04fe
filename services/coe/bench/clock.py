"""Timing in rounds: each round measures every subject once, so that noise affects all of them alike."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coe.platform.errors import Unavailable

Subject = Callable[[], float]  # does the work once and returns seconds

# Worker threads of the previous subject may still be spinning.
SETTLE_S = 0.02


def timed(work: Callable[[], object]) -> float:
    """Returns the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Medians:
    """`seconds`: by subject. `refused`: why a subject can't do the work."""

    seconds: dict[str, float]
    refused: dict[str, str]


def median_rounds(subjects: Mapping[str, Subject], rounds: int, settle_s: float = SETTLE_S) -> Medians:
    """Measures `rounds` rounds after an unmeasured one.

    A subject that raises Unavailable in the unmeasured round is left out; later, the error propagates.
    """
    able: dict[str, Subject] = {}
    refused: dict[str, str] = {}
    for name, measure in subjects.items():
        try:
            measure()
            able[name] = measure
        except Unavailable as error:
            refused[name] = error.message
    taken: dict[str, list[float]] = {name: [] for name in able}
    for _ in range(rounds):
        for name, measure in able.items():
            time.sleep(settle_s)
            taken[name].append(measure())
    return Medians({name: statistics.median(times) for name, times in taken.items()}, refused)


def pin(threads: int) -> None:
    """Pins this process, and the peers that it starts, to as many processors as there are threads."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:threads])
