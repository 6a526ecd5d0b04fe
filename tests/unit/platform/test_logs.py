"""What goes to the log, and what must not."""

import json
import subprocess
import sys

import pytest

FAILING = """
import sys
from coe.platform import logs
logs.configure("probe", form=sys.argv[1])
def fail(secret):
    raise ValueError("no")
try:
    fail("hunter" + "2")
except ValueError:
    logs.get("probe").exception("failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_are_without_local_variables(form: str) -> None:
    written = subprocess.run([sys.executable, "-c", FAILING, form], capture_output=True, text=True, check=True).stderr
    assert "ValueError" in written
    assert "hunter2" not in written


def test_a_line_is_one_object() -> None:
    written = subprocess.run([sys.executable, "-c", FAILING, "json"], capture_output=True, text=True, check=True).stderr
    (line,) = written.splitlines()
    facts = json.loads(line)
    assert (facts["event"], facts["service"], facts["level"]) == ("failed", "probe", "error")
    assert facts["exception"][0]["exc_type"] == "ValueError"
