"""What goes to the log, and what must not."""

import json
import logging
import subprocess
import sys

import pytest
from aiokafka.errors import NotEnoughReplicasError, NotLeaderForPartitionError

from coe.platform import logs

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


NAMED = r"""
from coe.platform import logs
logs.configure("probe", form="console")
logs.get("probe").info("asked", request_id="a\x1b[2Kb\u2028c\nd", tenant="é")
"""


def test_no_name_of_a_client_commands_the_terminal() -> None:
    written = subprocess.run([sys.executable, "-c", NAMED], capture_output=True, text=True, check=True).stderr
    (line,) = written.splitlines()
    assert line.isprintable()
    assert r"request_id=a\x1b[2Kb\u2028c\nd" in line
    assert "tenant=é" in line


def test_a_line_is_one_object() -> None:
    written = subprocess.run([sys.executable, "-c", FAILING, "json"], capture_output=True, text=True, check=True).stderr
    (line,) = written.splitlines()
    facts = json.loads(line)
    assert (facts["event"], facts["service"], facts["level"]) == ("failed", "probe", "error")
    assert facts["exception"][0]["exc_type"] == "ValueError"


THREADED = """
import logging, threading
from coe.platform import logs
logs.configure("probe")
thread = threading.Thread(target=logging.getLogger("elsewhere").info, args=("there",))
thread.start()
thread.join()
"""


def test_every_thread_says_whose_it_is() -> None:
    """gRPC reads certificates in one of its own."""
    written = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, check=True).stderr
    assert json.loads(written)["service"] == "probe"


COLOURED = r"""
import logging
from coe.platform import logs
logs.configure("probe")
logging.getLogger("uvicorn.error").info("Uvicorn runs", extra={"color_message": "\x1b[1mUvicorn\x1b[0m runs"})
"""


def test_a_line_is_for_programs() -> None:
    written = subprocess.run([sys.executable, "-c", COLOURED], capture_output=True, text=True, check=True).stderr
    assert "Uvicorn runs" in written
    assert "color" not in written


def test_what_a_library_repeats_is_said_once_in_a_while() -> None:
    now = 0.0
    repeats = logs.Repeats(clock=lambda: now)

    def said(name: str, message: str, *arguments: object) -> dict[str, object] | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)
        return vars(record) if repeats.filter(record) else None

    assert said("aiokafka.client", "no node %s", 1)
    assert not said("aiokafka.client", "no node %s", 1)
    # What a broker says of every busy producer.
    assert not said("aiokafka.producer.sender", "%s, retrying. Error: %s", "topic", NotEnoughReplicasError)
    assert said("aiokafka.producer.sender", "%s, retrying. Error: %s", "topic", NotLeaderForPartitionError)
    assert said("opentelemetry.exporter", "retrying in %.2fs", 1.01)
    assert not said("opentelemetry.exporter", "retrying in %.2fs", 0.98)
    # Another line, and another library's.
    assert said("aiokafka.client", "no node %s", 2)
    assert all(said("coe.router", "the same") for _ in range(3))
    now = 30.0
    again = said("aiokafka.client", "no node %s", 1)
    assert again is not None
    assert again["repeated"] == 1
    assert not said("aiokafka.client", "no node %s", 1)


def test_repeats_are_left_out_of_the_log() -> None:
    script = FAILING + "import logging\nfor _ in range(5): logging.getLogger('aiokafka').error('no node %s', 1)\n"
    written = subprocess.run([sys.executable, "-c", script, "json"], capture_output=True, text=True, check=True).stderr
    assert written.count("no node 1") == 1
