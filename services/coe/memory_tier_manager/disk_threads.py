"""A bounded set of threads that wait for disks: to read weights into DDR, and to look up files. A disk that does not
respond keeps its thread for ever, so hanging threads are counted and limited too."""

import threading
import time
from collections import deque
from collections.abc import Callable


class DiskThreads:
    """Runs at most `at_once` pieces of work; others wait their turn. Work that takes longer than `patience_s` counts as
    hanging and no longer occupies a turn. While `max_hanging` hang, further work is refused.

    Owned by one thread, which calls all methods. `work` runs in another thread; call `ended` when it is done.
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
        """The names of all running work, including work that hangs."""
        return frozenset(self._running)

    @property
    def hanging(self) -> int:
        now = self._clock()
        return sum(now - began > self._patience_s for began in self._running.values())

    def submit(self, name: str, work: Callable[[], None], refuse: Callable[[], None]) -> None:
        """Only one piece of work per name may run at a time. `refuse` is called if `work` will never run."""
        self._waiting.append((name, work, refuse))
        self.look()

    def ended(self, name: str) -> None:
        del self._running[name]
        self.look()

    def look(self) -> None:
        """Starts or refuses waiting work. Call this periodically: threads start to hang merely by time passing."""
        while self._waiting:
            hanging = self.hanging
            if hanging < self._max_hanging and len(self._running) - hanging >= self._at_once:
                return
            name, work, refuse = self._waiting.popleft()
            if hanging >= self._max_hanging:
                refuse()
                continue
            self._running[name] = self._clock()
            # A daemon thread, so that the process can exit even if the disk does not respond.
            threading.Thread(target=work, name=f"tiers-read-{name}", daemon=True).start()

    def stop(self) -> None:
        """Discards waiting work."""
        self._waiting.clear()
