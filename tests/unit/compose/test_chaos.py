"""compose/chaos.sh kills processes of the container that it names, and nobody else's."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHAOS = Path(__file__).resolve().parents[3] / "compose" / "chaos.sh"


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def crash(folder: Path, container: str, pid: int) -> "subprocess.CompletedProcess[str]":
    docker = folder / "docker"
    docker.write_text(f"#!/bin/sh\ncase $1 in ps) echo {container} ;; inspect) echo {pid} ;; esac\n")
    docker.chmod(0o755)
    return subprocess.run(
        ["sh", str(CHAOS), "coe", "0", "router"],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,
    )


def test_a_container_here_is_crashed(tmp_path: Path, victim: subprocess.Popen[bytes]) -> None:
    # What stands in the process's own mounts, as a container's id does.
    done = crash(tmp_path, "/proc", victim.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert victim.wait(30) == -signal.SIGKILL


def test_a_container_elsewhere_costs_nobody_here_his_life(tmp_path: Path, victim: subprocess.Popen[bytes]) -> None:
    done = crash(tmp_path, "0123456789ab", victim.pid)
    assert (done.returncode, victim.poll()) == (1, None)
    assert f"process {victim.pid}) does not run on this machine" in done.stderr


def test_a_container_that_does_not_run_ends_no_process_group(tmp_path: Path) -> None:
    assert crash(tmp_path, "0123456789ab", 0).returncode == 1
