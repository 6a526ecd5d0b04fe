"""The folder of a stack: one stack at a time in it, logs of the last two runs, nothing left from one that died."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coe.local import stackfile
from coe.local.plan import arena_name
from coe.platform.errors import Unavailable

SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Nobody else runs a stack on this home meanwhile. Raises Unavailable when somebody does."""
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
    """Removes what a stack that was killed could not remove itself."""
    stackfile.remove(home)
    # The arena, and the socket of its leases.
    for left in SHARED_MEMORY.glob(f"{arena_name(home)}*"):
        left.unlink(missing_ok=True)


def rotate_logs(logs: Path) -> None:
    """`NAME.log` of the last run becomes `NAME.log.1`."""
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
