"""The home folder of a stack: admits one stack at a time, keeps the logs of two runs, cleans up after a crash."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coe.local import stackfile
from coe.local.plan import arena_name
from coe.platform.errors import Unavailable

SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Keeps other stacks off this home. Raises Unavailable if one already runs on it."""
    lock_path = stackfile.lock_path(home)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("ab") as lock:
        try:
            stackfile.claim(lock)
        except OSError:
            raise Unavailable(f"a stack already runs on {home}: stop it, or set COE_HOME to another folder") from None
        clear(home)
        try:
            yield
        finally:
            clear(home)


def clear(home: Path) -> None:
    """Removes what a killed stack left behind."""
    stackfile.remove(home)
    # The arena and its lease socket.
    for left in SHARED_MEMORY.glob(f"{arena_name(home)}*"):
        left.unlink(missing_ok=True)


def rotate_logs(logs: Path) -> None:
    """Renames `NAME.log` of the last run to `NAME.log.1`."""
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
