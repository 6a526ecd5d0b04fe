"""How things are timed: a round measures every subject once, so that a noisy moment hits all of them."""

import os
import statistics
import time
from collections.abc import Callable, Mapping

Subject = Callable[[], float]  # does the work once, returns seconds

# Worker threads of the subject before may still wait busily for more work.
SETTLE_S = 0.02


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_rounds(subjects: Mapping[str, Subject], rounds: int, settle_s: float = SETTLE_S) -> dict[str, float]:
    """Median seconds of each subject; one unmeasured round first."""
    for measure in subjects.values():
        measure()
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, measure in subjects.items():
            time.sleep(settle_s)
            taken[name].append(measure())
    return {name: statistics.median(times) for name, times in taken.items()}


def pin(threads: int) -> None:
    """Keeps this process, and the peers that it starts, on as many processors as there are threads to measure."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:threads])
