"""Measures the memory bandwidth of the machine with as many threads as the runtime uses."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from coe.bench.clock import timed

# memcpy bypasses the cache, which doubles its bandwidth, only for copies larger than what it believes is the shared
# cache. On a virtual machine that can be the cache of the whole processor, hence the size of each thread's copy.
COPY_BYTES = 256 << 20
# More threads than this don't copy faster, and would need too much memory.
MAX_COPY_THREADS = 8

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def in_parallel(threads: int, work: Callable[[int], object]) -> float:
    """Returns seconds until `work(i)` has run for all i < threads, on threads that are already started."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        return timed(lambda: list(pool.map(work, range(threads))))


def read_seconds(data: npt.NDArray[np.uint8], threads: int, times: int = 1) -> float:
    """Returns mean seconds to read every byte of `data`, over `times` reads. All bytes must be equal."""
    # memcmp of two halves: two streams per thread, which read faster than one stream or any NumPy reduction.
    half = len(data) // (2 * threads)
    starts = [data.ctypes.data + 2 * i * half for i in range(threads)]
    return in_parallel(threads, lambda i: [_memcmp(starts[i], starts[i] + half, half) for _ in range(times)]) / times


def copy_buffers(threads: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Returns target and source for `copy_seconds`. The target's memory is first touched by the first copy."""
    size = COPY_BYTES * min(threads, MAX_COPY_THREADS)
    return np.zeros(size, np.uint8), np.ones(size, np.uint8)


def copy_seconds(target: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8], threads: int) -> float:
    """Returns seconds of a parallel memcpy from `source` to `target`."""
    workers = min(threads, MAX_COPY_THREADS)
    to, of = np.array_split(target, workers), np.array_split(source, workers)
    return in_parallel(workers, lambda i: np.copyto(to[i], of[i]))
