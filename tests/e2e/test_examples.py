"""The programs of docs/examples, against a running stack, as a reader runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.stack import RunningStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_prints_the_answer(stack: RunningStack, example: Path) -> None:
    command = [sys.executable, str(example), stack.state["kafka_bootstrap"], "Name a colour."]
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    # The terminal event may be read before the last chunks, which lie on another topic.
    assert done.stdout.strip().startswith(done.stderr.strip())
