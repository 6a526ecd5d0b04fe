"""The worker's lifecycle: its tasks, whether it is draining, and the failure that stopped it."""

import asyncio
from collections.abc import Coroutine


class Life:
    """`over` is set when the worker is to stop, because it has drained or because a task failed."""

    def __init__(self) -> None:
        self.draining = False
        self.over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        # The first failure of a task.
        self._failure: BaseException | None = None

    def spawn(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """Starts a task whose failure stops the worker."""
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
        """Raises the failure that stopped the worker, if any."""
        if self._failure is not None:
            raise self._failure

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Nobody cancelled it from outside: some client leaked a cancellation of its own. Better to stop than to
            # fall silent.
            if not self.draining and not self.over.is_set():
                self.fail(RuntimeError("a task of the worker was cancelled from within"))
        elif (error := task.exception()) is not None:
            self.fail(error)
