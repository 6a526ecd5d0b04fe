"""What `coe up` shows of its processes."""

import io
from pathlib import Path

from rich.console import Console

from coe.local.restart import NEVER
from coe.local.supervisor import State, Supervised
from coe.local.valkey import ValkeyServer
from coe.local.view import table


def test_brackets_of_a_reason_are_text(tmp_path: Path) -> None:
    process = Supervised("valkey", ValkeyServer(tmp_path), address="", restarts=NEVER, on_change=lambda _: None)
    process.state, process.trouble = State.FAILED, "ended: [main] can't open [/tmp/x]"
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(table([process]))
    assert process.trouble in console.export_text()
