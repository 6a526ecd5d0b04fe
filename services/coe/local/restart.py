"""When a process that ended may be started again. Pure: the caller's clock."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """Back-off doubles from `first_s` to `longest_s`; more than `most` ends within `window_s` seconds are too many."""

    most: int = 5
    window_s: float = 60.0
    first_s: float = 0.5
    longest_s: float = 8.0


# For what can't be replaced while others depend on its state.
NEVER = RestartPolicy(most=0)


class RestartHistory:
    """The ends of one process so far."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._ends: deque[float] = deque()
        self.restarts = 0

    def after_end(self, now: float) -> float | None:
        """Seconds to wait before the next start; None: give up."""
        self._ends.append(now)
        while self._ends[0] <= now - self._policy.window_s:
            self._ends.popleft()
        if len(self._ends) > self._policy.most:
            return None
        self.restarts += 1
        return min(self._policy.longest_s, self._policy.first_s * 2.0 ** (len(self._ends) - 1))
