"""Terminates the process when a step hangs (in a kernel, say, or on a stuck thread). The worker would otherwise keep
polling and hold its prompts for ever. As after any crash, the next worker counts an attempt for each (hands.py)."""

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
    """`limit_s`: the longest a step may take; 0: no limit."""

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
        """Call this several times per second. `step_s`: the age of the current step. `about`: describes it."""
        self._age.set(step_s, self._attributes)
        if not self._limit_s:
            return
        # A call that hangs while holding the GIL keeps this method from being called. faulthandler's thread, which does
        # not need the GIL, then dumps all stacks and exits the process, also with status 1.
        if (now := time.monotonic()) >= self._arm_at:
            faulthandler.dump_traceback_later(1.25 * self._limit_s, exit=True)
            self._arm_at = now + self._limit_s / 4
        if step_s > self._limit_s:
            reason = f"a step took more than {self._limit_s:g} s (COE_WORKER_STEP_TIMEOUT_S)"
            _log.critical("the service ended", code=InternalError.code, reason=reason, **about())
            # Not an orderly shutdown: that would wait for the step.
            os._exit(1)
