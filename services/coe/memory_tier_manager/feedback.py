"""How what is done elsewhere comes back to the run loop: from callbacks of its own thread, and from other threads."""

import asyncio
import threading
from collections.abc import Callable

from coe.memory_tier_manager import events as ev


class Feedback:
    """`post` handles an event, `fail` ends the loop with an error of ours; `ended`: a piece of work is over."""

    def __init__(self, post: Callable[[ev.Event], None], fail: Callable[[Exception], None]) -> None:
        self.post = post
        self.fail = fail
        self.ended = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._over = threading.Event()

    def tell(self, what: Callable[..., None], *args: object) -> None:
        """From a thread. One that hung may find the loop gone."""
        try:
            self.loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            if not self.over:
                raise

    @property
    def over(self) -> bool:
        """Nobody waits any more for what threads do."""
        return self._over.is_set()

    def end(self) -> None:
        self._over.set()
