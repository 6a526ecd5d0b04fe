"""How things are timed: a round measures every subject once, so that a noisy moment hits all of them."""

import statistics
import time
from collections.abc import Callable, Mapping

Subject = Callable[[], float]  # does the work once, returns seconds


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_rounds(subjects: Mapping[str, Subject], rounds: int) -> dict[str, float]:
    """Median seconds of each subject; one unmeasured round first."""
    for measure in subjects.values():
        measure()
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, measure in subjects.items():
            taken[name].append(measure())
    return {name: statistics.median(times) for name, times in taken.items()}
