"""How things are timed: a round measures every subject once, so that a noisy moment hits all of them."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coe.platform.errors import Unavailable

Subject = Callable[[], float]  # does the work once, returns seconds

# Worker threads of the subject before may still wait busily for more work.
SETTLE_S = 0.02


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Medians:
    """`seconds` of each subject; `refused`: why a subject can't do the work at all."""

    seconds: dict[str, float]
    refused: dict[str, str]


def median_rounds(subjects: Mapping[str, Subject], rounds: int, settle_s: float = SETTLE_S) -> Medians:
    """One unmeasured round first: a subject that is Unavailable then is left out, later it ends the benchmark."""
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
    """Keeps this process, and the peers that it starts, on as many processors as there are threads to measure."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:threads])
