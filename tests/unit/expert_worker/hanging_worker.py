"""A process that runs an in-memory worker whose only step hangs, in the way named on the command line."""

import asyncio
import ctypes
import sys
import threading
import time
from functools import partial

from coe.expert_worker.watchdog import Watchdog
from coe.platform import logs
from support.deadlines import until_true
from unit.expert_worker.worker_rig import Rig, assigned

# The loop of a busy machine may be late by nearly as much.
LIMIT_S = 2.0


class Hang(threading.Event):
    """In place of the gate that steps wait at: behind so many."""

    def __init__(self, *, behind: int, keeps_the_lock: bool) -> None:
        super().__init__()
        self.reached = False
        self._behind = behind
        self._keeps_the_lock = keeps_the_lock

    def wait(self, timeout: float | None = None) -> bool:
        if self._behind:
            self._behind -= 1
            # The loop hears of the step before, so that this one may be followed by the next.
            time.sleep(0.1)
            return True
        self.reached = True
        if self._keeps_the_lock:
            ctypes.PyDLL(None).pause()
        return threading.Event().wait()


async def main(kind: str) -> None:
    gate = Hang(behind=2 if kind == "left" else 0, keeps_the_lock=kind == "lock")
    rig = Rig(gate=gate, watchdog=Watchdog(LIMIT_S, worker="w"))
    rig.bus.put(assigned("r", max_tokens=5))
    if kind == "left":
        rig.bus.put(assigned("ended", max_tokens=1))
    running = asyncio.create_task(rig.worker.run())
    if kind in ("drained", "cancelled"):
        await until_true(lambda: gate.reached)
    if kind == "drained":
        await rig.worker.drain(0.0)
    if kind == "cancelled":
        rig.worker.post(partial(rig.worker.loop.on_cancel, "r"))
    await running


if __name__ == "__main__":
    logs.configure("expert-worker")
    asyncio.run(main(sys.argv[1]))
