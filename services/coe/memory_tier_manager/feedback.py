"""How results of work done outside the run loop return to it, from callbacks in its thread and from other threads."""

import asyncio
import threading
from collections.abc import Callable

from coe.memory_tier_manager import events as ev


class Feedback:
    """`post` handles an event. `fail` stops the loop with an internal error. `ended` is set when work has ended."""

    def __init__(self, post: Callable[[ev.Event], None], fail: Callable[[Exception], None]) -> None:
        self.post = post
        self.fail = fail
        self.ended = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._over = threading.Event()

    def tell(self, what: Callable[..., None], *args: object) -> None:
        """Calls `what` in the loop's thread, from any other. A thread that hung may find the loop closed."""
        try:
            self.loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            if not self.over:
                raise

    @property
    def over(self) -> bool:
        """Whether the runtime has closed, so that results of threads no longer matter."""
        return self._over.is_set()

    def end(self) -> None:
        self._over.set()
