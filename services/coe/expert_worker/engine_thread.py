"""The thread that runs the engine: steps, one at a time, and work that must happen between two steps.

If a step leaves nothing to decide, the next one starts at once, while the event loop still processes the results of the
last. This goes on until an event interrupts it (`interrupt` takes effect between two steps) or the loop falls behind.
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

# Interpreter switch interval. Python's default, 5 ms, is as long as a whole step.
HANDOVER_S = 0.0001


class EngineThread:
    """Calls back in the event loop's thread: `on_step` with each step's result, `on_failure` with a fatal error."""

    def __init__(
        self, runners: Runners, on_step: Callable[[StepDone], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._runners = runners
        self._on_step = on_step
        self._on_failure = on_failure
        # Results are handled in this context, so that they don't inherit the trace of an unrelated event.
        self._context = copy_context()
        self._thread: int | None = None
        self._may_go_on = False
        # Results sent (counted by the engine's thread) and received (by the loop's): equal when the loop keeps up.
        self._told = 0
        self._heard = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=self._begin)

    def step(self, step: Step) -> None:
        self._may_go_on = True
        self._pool.submit(self._step, step, asyncio.get_running_loop())

    def interrupt(self) -> None:
        """Stops after the current step, until `step` is called again."""
        self._may_go_on = False

    def discard(self, expert_id: str) -> None:
        self.interrupt()
        self._pool.submit(self._runners.discard, expert_id)

    def between_steps(self, work: Callable[[], None]) -> Coroutine[object, object, None]:
        """Runs `work` before any step requested later."""
        self.interrupt()
        return _result(asyncio.wrap_future(self._pool.submit(work)))

    def close(self) -> None:
        """Waits for the current step, then closes the runners."""
        self.interrupt()
        self._pool.submit(self._runners.close)
        self._pool.shutdown(wait=True)

    def stack(self) -> str:
        """The thread's current stack, for the log."""
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
            # Nobody awaits the future, so without this the loop would wait for the step for ever.
            loop.call_soon_threadsafe(self._on_failure, error)

    def _tell(self, step: Step, done: StepDone, loop: asyncio.AbstractEventLoop) -> Step | None:
        """Sends the result to the loop. Returns the next step, if it can start at once."""
        following = step.following(done) if self._may_go_on and self._told == self._heard else None
        self._told += 1
        loop.call_soon_threadsafe(self._hear, replace(done, went_on=following is not None), context=self._context)
        return following

    def _hear(self, done: StepDone) -> None:
        self._heard += 1
        self._on_step(done)


@contextmanager
def quick_handovers() -> Iterator[None]:
    """Shortens the switch interval: the engine must not wait for the interpreter while the loop sends out tokens."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(HANDOVER_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def _result(future: "asyncio.Future[None]") -> None:
    await future
