"""Calls that may hang, as those that ask a file system do: each in a thread, and waited for no longer than a while.

The threads are daemons: a pool of the standard library would wait for one that hangs when the process ends.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from coe.platform.errors import TierLoadError

T = TypeVar("T")
# A thread that has nothing to do for so long ends.
IDLE_S = 10.0


class _Call(NamedTuple):
    name: str
    work: Callable[[], Any]
    result: Future[Any]


class Bounded:
    """Safe in any thread. `max_calls`: that are under way at a time; those that hang stay."""

    def __init__(self, *, patience_s: float = 0.5, max_calls: int = 16) -> None:
        self._patience_s = patience_s
        self._max_calls = max_calls
        self._lock = threading.Lock()
        # By name: when it was called, and what comes of it.
        self._calls: dict[str, tuple[float, Future[Any]]] = {}
        self._waiting: SimpleQueue[_Call] = SimpleQueue()
        # Threads that no waiting call is for.
        self._idle = 0

    def call(self, name: str, work: Callable[[], T]) -> T:
        """Who calls under the same name meanwhile gets the same result. Raises what `work` raises; TierLoadError when
        it takes too long, and at once while it is overdue or too many are."""
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
                    # Otherwise a call came for it just now.
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
        # First: who calls when this result is known wants a newer one.
        with self._lock:
            del self._calls[call.name]
            self._idle += 1
        if failure is not None:
            call.result.set_exception(failure)
        else:
            call.result.set_result(value)
