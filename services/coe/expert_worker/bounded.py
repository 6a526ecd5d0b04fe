"""Runs calls that may hang, such as file-system lookups, in threads, and waits for each only a limited time.

The threads are daemons: at exit, a pool of the standard library would wait for a thread that hangs.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from coe.platform.errors import TierLoadError

T = TypeVar("T")
# An idle thread ends after this many seconds.
IDLE_S = 10.0


class _Call(NamedTuple):
    name: str
    work: Callable[[], Any]
    result: Future[Any]


class Bounded:
    """Thread-safe. `max_calls`: the most calls in progress at a time, hanging ones included."""

    def __init__(self, *, patience_s: float = 0.5, max_calls: int = 16) -> None:
        self._patience_s = patience_s
        self._max_calls = max_calls
        self._lock = threading.Lock()
        # Calls in progress, by name: when each began, and its future result.
        self._calls: dict[str, tuple[float, Future[Any]]] = {}
        self._waiting: SimpleQueue[_Call] = SimpleQueue()
        # Idle threads, minus the calls already queued for them.
        self._idle = 0

    def call(self, name: str, work: Callable[[], T]) -> T:
        """Runs `work` and returns its result. Calls under the same name while it runs share that result.

        Raises whatever `work` raises, and TierLoadError when it takes too long. While it is overdue, or too many calls
        are in progress, raises TierLoadError at once.
        """
        with self._lock:
            began, result = self._calls.get(name, (time.monotonic(), None))
            if result is None:
                if len(self._calls) >= self._max_calls:
                    raise TierLoadError(f"{name}: {len(self._calls)} calls are already hanging")
                result = Future()
                self._calls[name] = (began, result)
                self._start(_Call(name, work, result))
        try:
            value: T = result.result(max(began + self._patience_s - time.monotonic(), 0.0))
            return value
        except TimeoutError:
            raise TierLoadError(f"{name}: the file system is not responding") from None

    def _start(self, call: _Call) -> None:
        self._waiting.put(call)
        if self._idle:
            self._idle -= 1
        else:
            threading.Thread(target=self._run, name="bounded", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                call = self._waiting.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    # If none is idle, a call has just been queued for this thread.
                    if self._idle:
                        self._idle -= 1
                        return
                continue
            self._carry_out(call)

    def _carry_out(self, call: _Call) -> None:
        value: object = None
        failure: BaseException | None = None
        try:
            value = call.work()
        except BaseException as error:
            failure = error
        # Before the result is published: whoever calls after that wants a fresh result.
        with self._lock:
            del self._calls[call.name]
            self._idle += 1
        if failure is not None:
            call.result.set_exception(failure)
        else:
            call.result.set_result(value)
