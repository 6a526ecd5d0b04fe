"""A child process that writes a log file and never outlives this process.

Every child leads its own process group, so a terminal's Ctrl-C does not reach it and its owner decides the order of
shutdown. The kernel kills it when this process dies, however it dies. `setpriv --pdeathsig` arranges that, so no code
of this process, which has many threads, runs between fork and exec.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from coe.platform.errors import Unavailable

_LOG_TAIL_BYTES = 4096
# A disk with less free space counts as full: larger writes fail.
_NO_ROOM_BYTES = 4 * 2**20
_KILLED = (
    "SIGKILL, which the kernel sends when memory runs out (dmesg names the process then): "
    "less COE_STACK_HBM_BYTES, COE_STACK_DDR_BYTES or COE_WORKER_KV_BYTES takes less of it"
)
# Runs after setpriv, because the parent may have died before the kernel was told to watch it.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'


class Child:
    """A process that its owner starts and stops. Stdout and stderr are appended to `log`."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace_s: float = 10.0,
    ) -> None:
        """`env` is added to this process's environment. `grace_s`: seconds from SIGTERM to SIGKILL in `stop`."""
        self.name = name
        self.log = log
        self._argv = [str(argument) for argument in argv]
        self._env = dict(env or {})
        self._cwd = cwd
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Unavailable(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None before the start and while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Starts it. The calling thread must outlive the child: when that thread exits, the kernel kills the child."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_setpriv(), "--pdeathsig", "KILL", "sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                cwd=self._cwd,
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Waits for the process to exit and returns its status."""
        process = self._process
        if process is None:
            raise Unavailable(f"{self.name} has not been started")
        if process.poll() is None:
            await _exited(process.pid)
        return process.wait()

    async def stop(self) -> None:
        """Sends SIGTERM, waits `grace_s`, then kills the whole group. Does nothing if it has exited."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), self._grace_s)
        except TimeoutError:
            self.kill()
            await self.wait()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kills the whole process group. Does nothing if the process has exited."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of its log, for an error message."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def why_ended(self) -> str:
        """The cause of its exit, from its log, its disk or its status; empty if unknown."""
        if reason := last_words(self.log_tail()):
            return reason
        # Brokers bury this among their last log lines, if there was room for those at all.
        full = shutil.disk_usage(self.log.parent).free < _NO_ROOM_BYTES
        if full:
            return f"the disk of {self.log.parent} is full"
        return _KILLED if self.returncode == -signal.SIGKILL else ""


def last_words(log_tail: str) -> str:
    """The reason that one of our processes gave in the last line of its log; empty if it gave none."""
    _, _, last = log_tail.rpartition("\n")
    if last.startswith("coe: "):
        return last.removeprefix("coe: ")
    try:
        line = json.loads(last)
    except ValueError:
        return ""
    if not isinstance(line, dict) or not str(line.get("event")).startswith("the service "):
        return ""
    return " ".join(str(line.get("reason", "")).split())


async def _exited(pid: int) -> None:
    """Waits for a child of this process to exit, without using a thread and without reaping it."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    descriptor = os.pidfd_open(pid)

    def on_exit() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, on_exit)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _setpriv() -> str:
    path = shutil.which("setpriv")
    if path is None:
        raise Unavailable("the program setpriv is missing: install util-linux 2.33 or newer")
    return path
