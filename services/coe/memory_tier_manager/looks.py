"""Questions to the file system, asked in threads: a mount that is dead answers none, and may keep its threads for ever,
but not the loop, nor who asks for what lies elsewhere."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from coe.memory_tier_manager.disk_threads import DiskThreads
from coe.platform.errors import CoEError, TierLoadError

T = TypeVar("T")
# How long somebody waits for an answer.
LOOK_S = 5.0


class Looks:
    """Owned by the loop's thread. At most a few questions are asked at a time, and a few more hang (DiskThreads)."""

    def __init__(self, *, patience_s: float = LOOK_S) -> None:
        self._patience_s = patience_s
        self._threads = DiskThreads(patience_s=patience_s)
        # By name: when it was asked, and who hears the answer.
        self._asked: dict[str, tuple[float, asyncio.Future[Any]]] = {}

    @property
    def hanging(self) -> int:
        return self._threads.hanging

    def look(self) -> None:
        """To be called now and then."""
        self._threads.look()

    def stop(self) -> None:
        """Nothing is asked any more. Who has asked is answered, if ever."""
        self._threads.stop()

    def begin(self, name: str, question: Callable[[], T], on_answer: Callable[[T | Exception], None]) -> None:
        """One at a time of a name. `on_answer` hears the answer, or what was raised instead, however late."""
        loop = asyncio.get_running_loop()

        def end(answer: T | Exception) -> None:
            self._threads.ended(name)
            on_answer(answer)

        def work() -> None:
            try:
                answer: T | Exception = question()
            except Exception as error:
                answer = error
            with suppress(RuntimeError):  # it hung, and the loop is gone
                loop.call_soon_threadsafe(end, answer)

        def refuse() -> None:
            loop.call_soon(on_answer, TierLoadError(f"{name}: too many file systems are not responding"))

        self._threads.submit(name, work, refuse)

    async def ask(self, name: str, question: Callable[[], T], *, patience_s: float | None = None) -> T:
        """Who asks under the same name meanwhile gets the same answer. Raises CoEError: what the question raises, or
        TierLoadError when there is no answer in time, and at once while one is overdue."""
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
            answer.exception()  # maybe nobody waits any more
        else:
            answer.set_result(result)
