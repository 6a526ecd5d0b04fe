"""A hanging step exits the worker process, wherever it hangs; a step that ends in time does not."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from coe.expert_worker.watchdog import Watchdog

SCRIPT = Path(__file__).with_name("hanging_worker.py")
TESTS = str(Path(__file__).parents[2])


async def ended(kind: str) -> tuple[int | None, str]:
    """Status and log of a worker that hangs in this way."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), kind, env=os.environ | {"PYTHONPATH": TESTS}, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            _, log = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, log.decode()


@pytest.mark.parametrize("kind", ["alone", "cancelled", "left"])
async def test_a_hanging_step_exits_the_worker_with_one_line_that_names_it(kind: str) -> None:
    status, log = await ended(kind)
    assert status == 1
    line = json.loads(log.splitlines()[-1])
    assert line["event"] == "the service ended"
    assert "COE_WORKER_STEP_TIMEOUT_S" in line["reason"]
    assert (line["service"], line["expert"], line["prompts"], line["request_ids"]) == ("expert-worker", "a", 1, ["r"])
    assert SCRIPT.name in line["stack"]


@pytest.mark.parametrize("kind", ["lock", "drained"])
async def test_a_step_that_hangs_holding_the_gil_exits_the_worker_too(kind: str) -> None:
    """With the interpreter's lock nothing else in the process runs; and who drains waits for the step."""
    status, log = await ended(kind)
    assert status == 1
    assert log.startswith("Timeout (")
    assert SCRIPT.name in log


def test_a_step_within_its_limit_or_without_one_does_not_exit_the_worker() -> None:
    def about() -> dict[str, object]:
        raise AssertionError("nobody asks")

    Watchdog().look(1e9, about)
    patient = Watchdog(3600.0)
    with patient.watching():
        patient.look(3599.0, about)
