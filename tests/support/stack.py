"""The embedded stack as a user starts it: `coe up`, stopped with SIGINT, nothing left running."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from coe.local.doctor.arenas import remove
from coe.local.plan import arena_name

START_S, STOP_S = 180.0, 60.0


@dataclass(frozen=True)
class RunningStack:
    """Addresses of the servers, and the environment in which `coe` commands find them."""

    process: subprocess.Popen[bytes]
    home: Path
    state: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.home)

    def coe(
        self, *arguments: str, typed: str | None = None, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """`typed`: on standard input."""
        command = [sys.executable, "-m", "coe.cli.main", *arguments]
        return subprocess.run(
            command, env=self.environment, input=typed, capture_output=True, text=True, timeout=timeout_s
        )


def environment(home: Path) -> dict[str, str]:
    """The machine's own, without settings that point elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COE_")}
    return kept | {"COE_HOME": str(home), "COE_TRACE_FILE": str(home / "traces.jsonl")}


def wait_for_state(process: subprocess.Popen[bytes], file: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the stack did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
    return json.loads(file.read_text())


@contextmanager
def running_stack(home: Path, *, ends_with: signal.Signals = signal.SIGINT) -> Iterator[RunningStack]:
    """Started and, at the end, stopped by that signal; fails when anything of it runs on."""
    log = home / "up.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "coe.cli.main", "up", "--json"]
        process = subprocess.Popen(command, env=environment(home), stdout=output, stderr=subprocess.STDOUT)
        try:
            yield RunningStack(process, home, wait_for_state(process, home / "run" / "stack.json", log))
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(ends_with)
            status = process.wait(STOP_S)
    gone, alive = psutil.wait_procs(children, timeout=30)
    # Killed, a manager leaves its arena to a successor, which never comes here.
    remove(arena_name(home))
    assert not alive, f"left running: {alive}"
    assert len(gone) >= 7, "broker, Redis and five services were children of `coe up`"
    orderly = (0, 130, 128 + ends_with)
    assert ends_with is signal.SIGKILL or status in orderly, log.read_text()[-4000:]
