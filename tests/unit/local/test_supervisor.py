"""A supervised process is started again until that makes no sense any more."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from coe.local.process import Child
from coe.local.restart import NEVER, RestartPolicy
from coe.local.server import LocalServer
from coe.local.supervisor import State, Supervised
from coe.platform.errors import Unavailable

_DEADLINE_S = 20.0
_QUICK = RestartPolicy(most=2, first_s=0.0)


class Sleeper(LocalServer):
    """A process that waits for signals. Its starts can be made to fail."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log
        self.starts = 0
        self.broken = False

    async def start(self) -> None:
        self.starts += 1
        self._child = Child("sleeper", [sys.executable, "-c", "import signal; signal.pause()"], log=self.log)
        self._child.start()
        if self.broken:
            raise Unavailable("sleeper is broken")


class Watched:
    """A supervised sleeper and the states that it went through."""

    def __init__(self, tmp_path: Path, restarts: RestartPolicy) -> None:
        self.server = Sleeper(tmp_path / "log")
        self.states: asyncio.Queue[State] = asyncio.Queue()
        self.process = Supervised(
            "sleeper",
            self.server,
            address="",
            restarts=restarts,
            on_change=lambda process: self.states.put_nowait(process.state),
        )

    async def until(self, state: State) -> None:
        async with asyncio.timeout(_DEADLINE_S):
            while await self.states.get() is not state:
                pass

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)


async def test_a_killed_process_comes_back(tmp_path: Path) -> None:
    watched = Watched(tmp_path, _QUICK)
    await watched.process.start()
    await watched.until(State.SERVING)
    first = watched.process.pid
    keeper = asyncio.create_task(watched.process.keep())
    watched.kill()
    await watched.until(State.RESTARTING)
    assert "ended with status -9" in watched.process.trouble
    await watched.until(State.SERVING)
    assert watched.process.pid not in (None, first)
    assert watched.process.restarts == 1
    keeper.cancel()
    await watched.process.stop()
    assert watched.process.state is State.STOPPED


async def test_what_may_not_be_restarted_ends_the_watch(tmp_path: Path) -> None:
    watched = Watched(tmp_path, NEVER)
    await watched.process.start()
    watched.kill()
    with pytest.raises(Unavailable, match="sleeper ended with status -9"):
        await asyncio.wait_for(watched.process.keep(), _DEADLINE_S)
    assert watched.process.state is State.FAILED


async def test_failing_starts_count_as_ends(tmp_path: Path) -> None:
    watched = Watched(tmp_path, _QUICK)
    await watched.process.start()
    watched.server.broken = True
    watched.kill()
    with pytest.raises(Unavailable, match=r"^sleeper is broken"):
        await asyncio.wait_for(watched.process.keep(), _DEADLINE_S)
    assert watched.server.starts == 1 + _QUICK.most
    assert watched.process.pid is None
