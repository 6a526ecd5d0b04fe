"""Inputs that once went wrong, and hostile ones we thought of: each ends in one clear error, or is read."""

import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from coe.platform.errors import CoEError
from fuzz.readers import READERS

CORPUS = Path(__file__).parent / "corpus"
CASES = [(target, path) for target in READERS for path in sorted((CORPUS / target).glob("*"))]
RANDOM_CASES = 40


@pytest.mark.parametrize(("target", "path"), CASES, ids=[f"{target}-{path.name}" for target, path in CASES])
def test_hostile_files_end_in_one_clear_error(target: str, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "input"
    copy.write_bytes(path.read_bytes())
    with suppress(CoEError):
        READERS[target](copy)


def test_the_native_library_survives_any_arguments(tmp_path: Path) -> None:
    """The corpus and seeded noise, in a process of their own: a crash ends only that."""
    draw = random.Random(1)
    for number in range(RANDOM_CASES):
        (tmp_path / f"random-{number}").write_bytes(draw.randbytes(draw.randint(20, 400)))
    cases = [*sorted((CORPUS / "c_abi").glob("*")), *sorted(tmp_path.glob("random-*"))]
    command = [sys.executable, "-m", "fuzz.c_abi", *map(str, cases)]
    folders = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
