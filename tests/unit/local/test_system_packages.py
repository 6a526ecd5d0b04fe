"""What `make` does first on a new machine."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "system-packages.sh"


@pytest.mark.parametrize("python", ["old", "none"])
def test_a_python_that_is_too_old_is_one_line(tmp_path: Path, python: str) -> None:
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    named = str(tmp_path / python)
    done = subprocess.run([SCRIPT], env={"PATH": "/usr/bin:/bin", "PYTHON": named}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{named} is not Python 3.11 or newer: install it, or name another: make PYTHON=...\n"
