"""Threads that wait for disks (reads of weights into DDR, questions to file systems). One that does not answer keeps
its thread for ever."""

import threading
import time
from collections import deque
from collections.abc import Callable


class DiskThreads:
    """At most `at_once` run, others wait for their turn. One that runs longer than `patience_s` hangs: another takes
    its turn, until `max_hanging` hang; from then on work is refused until one of them ends.

    Owned by one thread, which calls everything here; `work` runs in another, and `ended` is to be called for it after.
    """

    def __init__(
        self, *, patience_s: float, at_once: int = 4, max_hanging: int = 8, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_s = patience_s
        self._at_once = at_once
        self._max_hanging = max_hanging
        self._clock = clock
        self._running: dict[str, float] = {}
        self._waiting: deque[tuple[str, Callable[[], None], Callable[[], None]]] = deque()

    @property
    def running(self) -> frozenset[str]:
        """Also those that hang."""
        return frozenset(self._running)

    @property
    def hanging(self) -> int:
        now = self._clock()
        return sum(now - began > self._patience_s for began in self._running.values())

    def submit(self, name: str, work: Callable[[], None], refuse: Callable[[], None]) -> None:
        """One at a time of a name. `refuse` is called when `work` will never run."""
        self._waiting.append((name, work, refuse))
        self.look()

    def ended(self, name: str) -> None:
        del self._running[name]
        self.look()

    def look(self) -> None:
        """To be called now and then: they begin to hang by time alone."""
        while self._waiting:
            hanging = self.hanging
            if hanging < self._max_hanging and len(self._running) - hanging >= self._at_once:
                return
            name, work, refuse = self._waiting.popleft()
            if hanging >= self._max_hanging:
                refuse()
                continue
            self._running[name] = self._clock()
            # A daemon: the process can end though its disk does not answer.
            threading.Thread(target=work, name=f"tiers-read-{name}", daemon=True).start()

    def stop(self) -> None:
        """Nothing begins any more."""
        self._waiting.clear()
