"""What a command prints where its streams hold no Unicode, or are closed."""

import json
import os
import subprocess
import sys

import pytest

_COMMAND = """
from coe.cli import main as cli
from coe.cli.console import out, print_json

def build(arguments):
    out.print("✓ café")
    print_json({"text": "日本 😀"})
    return lambda args: None

cli.build = build
cli.main([])
"""


def ran(redirections: str = "", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    shell = ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, _COMMAND]
    return subprocess.run(shell, capture_output=True, env=os.environ | environment, timeout=60, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_escaped_and_json_is_json(encoding: str) -> None:
    done = ran(PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = done.stdout.splitlines()
    assert first == "✓ café".encode(encoding, "backslashreplace")
    assert json.loads(second.decode(encoding)) == {"text": "日本 😀"}


@pytest.mark.parametrize("redirections", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_dev_null(redirections: str) -> None:
    done = ran(redirections)
    assert (done.returncode, done.stderr) == (0, b"")
