"""Kafka's jars come once, whole, or not at all."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coe.local.kafka import artifacts
from coe.platform.errors import Unavailable
from support.deadlines import until_true

_COPIES = """
for argument; do case $argument in -DoutputDirectory=*) folder=${argument#*=};; esac; done
mkdir "$folder" && echo "$@" >"$folder/kafka.jar"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def maven(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    program = folder / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{does}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


async def test_they_are_fetched_once_and_held_against_their_checksums(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven(cache, monkeypatch, _COPIES)
    first, second = await asyncio.gather(artifacts.fetched(), artifacts.fetched())
    assert first == second == artifacts.cache_dir()
    assert "--strict-checksums" in (first / "kafka.jar").read_text().split()
    assert artifacts.is_fetched()


async def test_what_hinders_maven_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven(cache, monkeypatch, "echo '[INFO] begins'; echo '[ERROR] Unknown host'; echo '[ERROR] more'; exit 1")
    with pytest.raises(Unavailable, match=r"Maven could not fetch Kafka [\d.]+: \[ERROR\] Unknown host$"):
        await artifacts.fetched()
    assert not artifacts.cache_dir().exists()


async def test_who_gives_up_leaves_nothing_running(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = cache / "pid"
    maven(cache, monkeypatch, f"echo $$ >'{running}.new'; mv '{running}.new' '{running}'; exec sleep 600")
    fetching = asyncio.create_task(artifacts.fetched())
    await until_true(running.exists)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert not psutil.pid_exists(int(running.read_text()))
    assert [path.name for path in artifacts.cache_dir().parent.iterdir() if path.is_dir()] == []


def test_make_kafka_fails_in_one_line(cache: Path) -> None:
    command = [sys.executable, "-m", "coe.local.kafka.class_archive"]
    done = subprocess.run(command, env=os.environ | {"PATH": ""}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("coe: Maven is missing: ")
    assert done.stderr.count("\n") == 1
