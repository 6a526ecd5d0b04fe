"""Calls that may hang, as those that ask a file system do: each in a thread, and waited for no longer than a while."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from coe.platform.errors import TierLoadError

T = TypeVar("T")


class Bounded:
    """Safe in any thread. `max_calls`: that are under way at a time; those that hang stay."""

    def __init__(self, *, patience_s: float = 0.5, max_calls: int = 16) -> None:
        self._patience_s = patience_s
        self._max_calls = max_calls
        self._lock = threading.Lock()
        # By name: when it was called, and what comes of it.
        self._calls: dict[str, tuple[float, Future[Any]]] = {}

    def call(self, name: str, work: Callable[[], T]) -> T:
        """Who calls under the same name meanwhile gets the same result. Raises what `work` raises; TierLoadError when
        it takes too long, and at once while it is overdue or too many are."""
        with self._lock:
            began, result = self._calls.get(name, (time.monotonic(), None))
            if result is None:
                if len(self._calls) >= self._max_calls:
                    raise TierLoadError(f"{name}: {len(self._calls)} calls hang already")
                result = Future()
                self._calls[name] = (began, result)
                threading.Thread(target=self._run, args=(name, work, result), name="bounded", daemon=True).start()
        try:
            value: T = result.result(max(began + self._patience_s - time.monotonic(), 0.0))
            return value
        except TimeoutError:
            raise TierLoadError(f"{name}: the file system does not answer") from None

    def _run(self, name: str, work: Callable[[], T], result: Future[Any]) -> None:
        value: T | None = None
        failure: BaseException | None = None
        try:
            value = work()
        except BaseException as error:
            failure = error
        # First: who calls when this result is known wants a newer one.
        with self._lock:
            del self._calls[name]
        if failure is not None:
            result.set_exception(failure)
        else:
            result.set_result(value)
