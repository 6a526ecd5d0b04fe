"""However `coe up` ends, nothing of it runs on."""

import signal
from pathlib import Path

import pytest

from support.stack import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_orphan_is_left(tmp_path: Path, how: signal.Signals) -> None:
    """SIGINT is how the stack of all other tests ends, with the same check."""
    with running_stack(tmp_path, ends_with=how) as stack:
        assert stack.state["kafka_bootstrap"]
