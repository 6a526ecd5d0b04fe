"""Decides when a process that exited may be restarted. Pure: the caller supplies the time."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """The back-off doubles from `first_s` to `longest_s`. At most `most` exits are allowed in `window_s` seconds."""

    most: int = 5
    window_s: float = 60.0
    first_s: float = 0.5
    longest_s: float = 8.0


# For a process that can't be restarted because others depend on its state.
NEVER = RestartPolicy(most=0)


class RestartHistory:
    """The recent exits of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._ends: deque[float] = deque()
        self.restarts = 0

    def after_end(self, now: float) -> float | None:
        """Returns seconds to wait before the restart, or None if there may be none."""
        self._ends.append(now)
        while self._ends[0] <= now - self._policy.window_s:
            self._ends.popleft()
        if len(self._ends) > self._policy.most:
            return None
        self.restarts += 1
        return min(self._policy.longest_s, self._policy.first_s * 2.0 ** (len(self._ends) - 1))
