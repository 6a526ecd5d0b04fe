"""Recent terminal events, for clients that resubmit a finished prompt. Bounded in bytes and age."""

import time
from collections import OrderedDict
from collections.abc import Callable

# In addition to an event's bytes: its id and the containers.
_OVERHEAD_BYTES = 400


class Ended:
    """Remembers events for `seconds`, up to the newest `most_bytes`."""

    def __init__(self, seconds: float, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._clock = clock
        self._events: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def note(self, request_id: str, event: bytes) -> None:
        """An id's first event is kept for as long as it is remembered."""
        while self._events and self._is_old(next(iter(self._events))):
            self._forget()
        if request_id in self._events or self._seconds <= 0:
            return
        self._events[request_id] = (self._clock() + self._seconds, event)
        self._bytes += len(event) + _OVERHEAD_BYTES
        while self._bytes > self._most_bytes:
            self._forget()

    def get(self, request_id: str) -> bytes | None:
        if request_id not in self._events or self._is_old(request_id):
            return None
        return self._events[request_id][1]

    def _forget(self) -> None:
        """Drops the oldest event."""
        _, (_, event) = self._events.popitem(last=False)
        self._bytes -= len(event) + _OVERHEAD_BYTES

    def _is_old(self, request_id: str) -> bool:
        return self._events[request_id][0] <= self._clock()
