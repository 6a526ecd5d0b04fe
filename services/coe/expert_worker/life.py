"""The worker's life: its tasks, whether it drains, and what broke it."""

import asyncio
from collections.abc import Coroutine


class Life:
    """`over`: the worker is to end, drained or broken."""

    def __init__(self) -> None:
        self.draining = False
        self.over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        # The first failure of a task.
        self._failure: BaseException | None = None

    def spawn(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """A task whose failure breaks the worker."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.over.set()

    async def end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self) -> None:
        """Raises what broke the worker."""
        if self._failure is not None:
            raise self._failure

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Nobody asked for it: a client let a cancellation of its own out. Better to end than to fall silent.
            if not self.draining and not self.over.is_set():
                self.fail(RuntimeError("a task of the worker was cancelled from within"))
        elif (error := task.exception()) is not None:
            self.fail(error)
