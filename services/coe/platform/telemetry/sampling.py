"""Decides which traces are recorded: all of them while there are few, and no more a second than was agreed."""

import time
from collections.abc import Callable


class RateLimited:
    """A bucket of `per_s` traces, refilled steadily: telemetry's cost has a bound whatever the load."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = max(per_s, 1.0)
        self._at = clock()

    def take(self) -> bool:
        """Whether one more trace may begin."""
        now = self._clock()
        self._left = min(max(self._per_s, 1.0), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def never() -> bool:
    """Nothing is recorded but what a caller's decision asks for."""
    return False
