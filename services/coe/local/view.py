"""The table that `coe up` shows while the stack runs."""

from collections.abc import Iterable

import psutil
from rich.markup import escape
from rich.table import Table

from coe.local.supervisor import State, Supervised

_COLOURS = {
    State.SERVING: "green",
    State.STARTING: "yellow",
    State.RESTARTING: "yellow",
    State.FAILED: "red",
}


def table(processes: Iterable[Supervised]) -> Table:
    """One row per process: state, address and memory use."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "state", "address"):
        shown.add_column(name, overflow="fold")  # names and addresses are never truncated
    for name in ("pid", "memory MiB", "restarts"):
        shown.add_column(name, justify="right")
    for process in processes:
        colour = _COLOURS.get(process.state, "dim")
        state = f"[{colour}]{process.state}[/]"
        pid = process.pid
        shown.add_row(
            process.name,
            state,
            process.address,
            str(pid or ""),
            _memory_mib(pid),
            str(process.restarts or ""),
        )
        if process.trouble and process.state is not State.SERVING:
            shown.add_row("", f"[red]{escape(process.trouble)}[/]")
    return shown


def _memory_mib(pid: int | None) -> str:
    try:
        return f"{psutil.Process(pid).memory_info().rss / 2**20:.0f}" if pid else ""
    except psutil.NoSuchProcess:
        return ""
