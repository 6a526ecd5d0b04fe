"""What the machine's memory can do with as many threads as the runtime uses."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from coe.bench.clock import timed

# memcpy only streams past the cache, which doubles its bandwidth, for a copy that is larger than what it takes for the
# shared cache: on virtual machines that can be the cache of the whole processor. So each thread copies this much.
COPY_BYTES = 256 << 20
# More threads than this don't copy faster, and need too much memory.
MAX_COPY_THREADS = 8

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def in_parallel(threads: int, work: Callable[[int], object]) -> float:
    """Seconds until `work(i)` has run for all i < threads, each on a thread that is started already."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        return timed(lambda: list(pool.map(work, range(threads))))


def read_seconds(data: npt.NDArray[np.uint8], threads: int, times: int = 1) -> float:
    """Reads every byte of `data`, which must be all the same, so many times; seconds of one."""
    # The C library's comparison of two halves: two streams a thread, which read faster than one or any of NumPy's
    # reductions.
    half = len(data) // (2 * threads)
    starts = [data.ctypes.data + 2 * i * half for i in range(threads)]
    return in_parallel(threads, lambda i: [_memcmp(starts[i], starts[i] + half, half) for _ in range(times)]) / times


def copy_buffers(threads: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Target and source for `copy_seconds`. The first copy touches the memory of the target."""
    size = COPY_BYTES * min(threads, MAX_COPY_THREADS)
    return np.zeros(size, np.uint8), np.ones(size, np.uint8)


def copy_seconds(target: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8], threads: int) -> float:
    """A parallel memcpy of `source`."""
    workers = min(threads, MAX_COPY_THREADS)
    to, of = np.array_split(target, workers), np.array_split(source, workers)
    return in_parallel(workers, lambda i: np.copyto(to[i], of[i]))
