"""Decides which traces are recorded: all of them at low load, at most a fixed number per second otherwise."""

import time
from collections.abc import Callable


class RateLimited:
    """A token bucket of `per_s` traces per second, which bounds the cost of telemetry at any load."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = max(per_s, 1.0)
        self._at = clock()

    def take(self) -> bool:
        """Whether another trace may be recorded."""
        now = self._clock()
        self._left = min(max(self._per_s, 1.0), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def never() -> bool:
    """Records only traces that a caller has sampled."""
    return False
