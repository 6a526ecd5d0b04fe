"""The engine's thread: one step after the other, and what comes between two of them.

A step that leaves nothing to decide is followed by the next one at once, while the loop still looks at what came of it:
until something happens (`interrupt`), which takes effect between two steps, or the loop falls behind.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace

from coe.expert_worker.effects import Step, StepDone
from coe.expert_worker.runners import Runners

# For so long a thread may keep the interpreter from another that wants it. Python's own 5 ms are a whole step.
HANDOVER_S = 0.0001


class EngineThread:
    """In the loop's thread: `on_step` with how a step went, `on_failure` with what the engine can't survive."""

    def __init__(
        self, runners: Runners, on_step: Callable[[StepDone], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._runners = runners
        self._on_step = on_step
        self._on_failure = on_failure
        # What comes of a step is of no trace that an event came with.
        self._context = copy_context()
        self._thread: int | None = None
        self._may_go_on = False
        # Results, each counted by one thread.
        self._told = 0
        self._heard = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=self._begin)

    def step(self, step: Step) -> None:
        self._may_go_on = True
        self._pool.submit(self._step, step, asyncio.get_running_loop())

    def interrupt(self) -> None:
        """The step under way is the last one until `step` is called."""
        self._may_go_on = False

    def discard(self, expert_id: str) -> None:
        self.interrupt()
        self._pool.submit(self._runners.discard, expert_id)

    def between_steps(self, work: Callable[[], None]) -> Coroutine[object, object, None]:
        """Before any step that is asked for later."""
        self.interrupt()
        return _result(asyncio.wrap_future(self._pool.submit(work)))

    def close(self) -> None:
        """Waits for the step under way."""
        self.interrupt()
        self._pool.submit(self._runners.close)
        self._pool.shutdown(wait=True)

    def stack(self) -> str:
        """Where it is now, for the log."""
        frame = sys._current_frames().get(self._thread or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _begin(self) -> None:
        self._thread = threading.get_ident()

    def _step(self, step: Step, loop: asyncio.AbstractEventLoop) -> None:
        try:
            following: Step | None = step
            while following is not None:
                following = self._tell(following, self._runners.step(following), loop)
        except BaseException as error:
            # Nobody looks at the future, and the loop would wait for the step for ever.
            loop.call_soon_threadsafe(self._on_failure, error)

    def _tell(self, step: Step, done: StepDone, loop: asyncio.AbstractEventLoop) -> Step | None:
        """Returns the step to go on with."""
        following = step.following(done) if self._may_go_on and self._told == self._heard else None
        self._told += 1
        loop.call_soon_threadsafe(self._hear, replace(done, went_on=following is not None), context=self._context)
        return following

    def _hear(self, done: StepDone) -> None:
        self._heard += 1
        self._on_step(done)


@contextmanager
def quick_handovers() -> Iterator[None]:
    """The engine's thread must not wait for the interpreter while the loop's sends what the step before drew."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(HANDOVER_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def _result(future: "asyncio.Future[None]") -> None:
    await future
