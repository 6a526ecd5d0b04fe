"""Ends the process when a step does not end (a kernel that hangs, a thread that is stuck): the worker would go on
polling and hold its prompts for ever. Who has them next counts that, as after any crash (hands.py)."""

import faulthandler
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from coe.platform import logs
from coe.platform.errors import InternalError
from coe.platform.telemetry import names
from coe.platform.telemetry.registry import gauge

_log = logs.get(__name__)


class Watchdog:
    """`limit_s`: how long a step may take; 0: as long as it likes."""

    def __init__(self, limit_s: float = 0.0, *, worker: str = "") -> None:
        self._limit_s = limit_s
        self._arm_at = 0.0
        self._age = gauge("coe.step.age")
        self._attributes = {names.COE_WORKER: worker}

    @contextmanager
    def watching(self) -> Iterator[None]:
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def look(self, step_s: float, about: Callable[[], Mapping[str, object]]) -> None:
        """To be called several times a second. `step_s`: so long the step under way has taken. `about`: what it is."""
        self._age.set(step_s, self._attributes)
        if not self._limit_s:
            return
        # A call that hangs with the interpreter's lock keeps this from being called. Then faulthandler's thread, which
        # needs no lock, ends the process, with status 1 too, and writes all stacks.
        if (now := time.monotonic()) >= self._arm_at:
            faulthandler.dump_traceback_later(1.25 * self._limit_s, exit=True)
            self._arm_at = now + self._limit_s / 4
        if step_s > self._limit_s:
            reason = f"a step has not ended in {self._limit_s:g} s (COE_WORKER_STEP_TIMEOUT_S)"
            _log.critical("the service ended", code=InternalError.code, reason=reason, **about())
            # Nothing orderly: that would wait for the step.
            os._exit(1)
