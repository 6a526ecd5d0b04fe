"""Arenas of killed managers are found and removed; those of the living, and what is no arena, stay."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from coe.cli import doctor as command
from coe.local.doctor import Level
from coe.local.doctor.arenas import SHARED_MEMORY, arena_check, left_arenas, remove
from coe.native import HbmArena

OWNER = """
import sys, signal
from coe.native import HbmArena
arena = HbmArena.create(sys.argv[1], 4 << 20, 4)
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"coe-test-{uuid.uuid4().hex[:12]}"
    yield name
    for path in SHARED_MEMORY.glob(f"{name}*"):
        path.unlink()


def owner(name: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", OWNER, name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


def left() -> set[str]:
    return {arena.name for arena in left_arenas()}


def test_what_a_killed_manager_left_is_found_and_removed_with_its_socket(name: str) -> None:
    process = owner(name)
    with socket.socket(socket.AF_UNIX) as leases:
        leases.bind(str(SHARED_MEMORY / f"{name}.leases"))
    assert name not in left()
    kill(process)
    assert name in left()
    (mine,) = (arena for arena in left_arenas() if arena.name == name)
    assert mine.nbytes >= 4 << 20
    check = arena_check()
    assert check.level is Level.WARNING
    assert name in check.found
    assert "--clean" in check.fix
    assert remove(name)
    assert not list(SHARED_MEMORY.glob(f"{name}*"))


def test_the_arena_of_a_living_manager_stays(name: str) -> None:
    process = owner(name)
    assert not remove(name)
    assert (SHARED_MEMORY / name).exists()
    kill(process)


def test_an_arena_that_a_worker_still_reads_stays_for_the_next_manager(name: str) -> None:
    kill(owner(name))
    worker = HbmArena.attach(name)
    assert name not in left()
    assert not remove(name)
    worker.close()
    assert name in left()


def test_what_is_no_arena_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "coe-notes").write_bytes(b"something else of the same user")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert left_arenas(tmp_path) == []
    assert arena_check(tmp_path).level is Level.GOOD


def test_the_command_removes_them_and_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kill(owner(name))
    # Those of others are not this test's.
    monkeypatch.setattr(command, "left_arenas", lambda: [arena for arena in left_arenas() if arena.name == name])
    command.command(clean=True, as_json=True)
    assert f'"{name}"' in capsys.readouterr().out
    assert not (SHARED_MEMORY / name).exists()
