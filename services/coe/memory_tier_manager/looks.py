"""File-system lookups, made in threads. A dead mount answers none and may block its threads for ever, but it must not
block the run loop, nor lookups on other file systems."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from coe.memory_tier_manager.disk_threads import DiskThreads
from coe.platform.errors import CoEError, TierLoadError

T = TypeVar("T")
# How long a caller waits for an answer.
LOOK_S = 5.0


class Looks:
    """Owned by the loop's thread. DiskThreads limits how many lookups run at a time and how many may hang."""

    def __init__(self, *, patience_s: float = LOOK_S) -> None:
        self._patience_s = patience_s
        self._threads = DiskThreads(patience_s=patience_s)
        # Pending lookups by name: when each began, and its future answer.
        self._asked: dict[str, tuple[float, asyncio.Future[Any]]] = {}

    @property
    def hanging(self) -> int:
        return self._threads.hanging

    def look(self) -> None:
        """Call this periodically (DiskThreads.look)."""
        self._threads.look()

    def stop(self) -> None:
        """Starts no more lookups; running ones are still answered if their disks respond."""
        self._threads.stop()

    def begin(self, name: str, question: Callable[[], T], on_answer: Callable[[T | Exception], None]) -> None:
        """Only one lookup per name may run at a time. `on_answer` gets the answer or the exception, however late."""
        loop = asyncio.get_running_loop()

        def end(answer: T | Exception) -> None:
            self._threads.ended(name)
            on_answer(answer)

        def work() -> None:
            try:
                answer: T | Exception = question()
            except Exception as error:
                answer = error
            with suppress(RuntimeError):  # it hung, and the loop has been closed
                loop.call_soon_threadsafe(end, answer)

        def refuse() -> None:
            loop.call_soon(on_answer, TierLoadError(f"{name}: too many file systems are not responding"))

        self._threads.submit(name, work, refuse)

    async def ask(self, name: str, question: Callable[[], T], *, patience_s: float | None = None) -> T:
        """Callers using the same name while the lookup runs share its answer. Raises CoEError: what `question` raises,
        or TierLoadError if there is no answer in time, and immediately while one is overdue."""
        loop, patience_s = asyncio.get_running_loop(), patience_s or self._patience_s
        began, answer = self._asked.get(name, (loop.time(), None))
        if answer is None:
            answer = loop.create_future()
            self._asked[name] = (began, answer)
            self.begin(name, question, lambda result: self._answered(name, result))
        try:
            async with asyncio.timeout_at(began + patience_s):
                result: T = await asyncio.shield(answer)
                return result
        except TimeoutError:
            raise TierLoadError(f"{name}: the file system is not responding") from None

    def _answered(self, name: str, result: object) -> None:
        _, answer = self._asked.pop(name)
        if isinstance(result, Exception):
            known = isinstance(result, CoEError)
            answer.set_exception(result if known else TierLoadError(f"{name}: {result}"))
            answer.exception()  # mark as retrieved: all callers may have timed out
        else:
            answer.set_result(result)
