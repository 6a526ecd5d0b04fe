"""Stages of a stack: none waits for what has ended, and none outlives an end that was cut short."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from coe.local.home import claimed
from coe.local.options import StackOptions
from coe.local.process import Child
from coe.local.readiness import until_ready
from coe.local.restart import NEVER
from coe.local.server import LocalServer
from coe.local.stack import Stack
from coe.local.supervisor import State, Supervised
from coe.platform.errors import Unavailable
from support.deadlines import until_true

_DEADLINE_S = 20.0
# It takes no notice of SIGTERM.
_CODE = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"


class Stubborn(LocalServer):
    def __init__(self, log: Path, *, answers: bool) -> None:
        super().__init__()
        self._log = log
        self._answer = answers

    async def start(self) -> None:
        self._child = child = Child("stubborn", [sys.executable, "-c", _CODE], log=self._log, grace_s=_DEADLINE_S)
        child.start()

        async def up() -> bool:
            return self._answer and "up" in child.log_tail()

        await until_ready(child, up, _DEADLINE_S)


def process(folder: Path, name: str, *, answers: bool = True) -> Supervised:
    server = Stubborn(folder / f"{name}.log", answers=answers)
    return Supervised(name, server, address="", restarts=NEVER, on_change=lambda _: None)


async def test_a_start_does_not_wait_for_what_has_ended(tmp_path: Path) -> None:
    stack = Stack(StackOptions(home=tmp_path))
    broker, service = process(tmp_path, "broker"), process(tmp_path, "service", answers=False)
    await stack._start_stage([broker])
    starting = asyncio.create_task(stack._start_stage([service]))
    await until_true(lambda: service.state is State.STARTING)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="broker ended with status -9"):
        await starting
    await service.kill()


async def test_who_asks_twice_does_not_wait(tmp_path: Path) -> None:
    stack, stubborn = Stack(StackOptions(home=tmp_path)), process(tmp_path, "stubborn")
    stack._exit.enter_context(claimed(tmp_path))
    await stack._start_stage([stubborn])
    stopping = asyncio.create_task(stack._stop())
    await until_true(lambda: stubborn.state is State.STOPPING)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    assert stubborn.pid is None
    with claimed(tmp_path):
        pass
