"""The engine's thread: one step after the other, and what comes between two of them."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

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
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=self._begin)

    def step(self, step: Step) -> None:
        self._pool.submit(self._step, step, asyncio.get_running_loop())

    def discard(self, expert_id: str) -> None:
        self._pool.submit(self._runners.discard, expert_id)

    def between_steps(self, work: Callable[[], None]) -> Coroutine[object, object, None]:
        """Before any step that is asked for later."""
        return _result(asyncio.wrap_future(self._pool.submit(work)))

    def close(self) -> None:
        """Waits for the step under way."""
        self._pool.submit(self._runners.close)
        self._pool.shutdown(wait=True)

    def stack(self) -> str:
        """Where it is now, for the log."""
        frame = sys._current_frames().get(self._thread or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _begin(self) -> None:
        self._thread = threading.get_ident()

    def _step(self, step: Step, loop: asyncio.AbstractEventLoop) -> None:
        """Waits for what comes of it: the way back is short."""
        try:
            done = self._runners.step(step)
        except BaseException as error:
            # Nobody looks at the future, and the loop would wait for the step for ever.
            loop.call_soon_threadsafe(self._on_failure, error)
        else:
            loop.call_soon_threadsafe(self._on_step, done, context=self._context)


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
