"""What the machine's memory can do with as many threads as the runtime uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from coe.bench.clock import timed

# Well beyond the last-level cache.
BYTES = 256 << 20


def in_parallel(threads: int, work: Callable[[int], object]) -> float:
    """Seconds until `work(i)` has run for all i < threads, each on a thread that is started already."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        return timed(lambda: list(pool.map(work, range(threads))))


def read_seconds(data: npt.NDArray[np.uint64], threads: int) -> float:
    """Reads every word of `data` once."""
    # Of NumPy's reductions the maximum of 32-bit integers reads fastest: as fast as memchr.
    parts = np.array_split(data.view(np.int32), threads)
    return in_parallel(threads, lambda i: np.maximum.reduce(parts[i]))


def copy_seconds(target: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8], threads: int) -> float:
    """A parallel memcpy of `source`."""
    to, of = np.array_split(target, threads), np.array_split(source, threads)
    return in_parallel(threads, lambda i: np.copyto(to[i], of[i]))
