"""What the machine's memory can do with as many threads as the runtime uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from coe.bench.clock import timed

# Well beyond the last-level cache.
BYTES = 256 << 20
# memcpy only streams past the cache, which doubles its bandwidth, for a copy that is larger than what it takes for the
# shared cache: on virtual machines that can be the cache of the whole processor. So each thread copies this much.
COPY_BYTES = 256 << 20
# More threads than this don't copy faster, and need too much memory.
MAX_COPY_THREADS = 8


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


def copy_buffers(threads: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Target and source for `copy_seconds`. The first copy touches the memory of the target."""
    size = COPY_BYTES * min(threads, MAX_COPY_THREADS)
    return np.zeros(size, np.uint8), np.ones(size, np.uint8)


def copy_seconds(target: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8], threads: int) -> float:
    """A parallel memcpy of `source`."""
    workers = min(threads, MAX_COPY_THREADS)
    to, of = np.array_split(target, workers), np.array_split(source, workers)
    return in_parallel(workers, lambda i: np.copyto(to[i], of[i]))
