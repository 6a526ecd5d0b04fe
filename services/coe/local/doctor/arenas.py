"""Finds HBM arenas that killed managers left in shared memory, and removes those that are no longer used.

A manager holds a file lock on its arena for as long as it runs. An ownerless arena that a worker still has mapped
(according to /proc) is kept: generations are running on it, and the next manager adopts it.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coe.local.doctor.check import Check, Level, judged
from coe.local.home import SHARED_MEMORY

# The first bytes of an arena (native/src/arena/layout.h).
MAGIC = b"\x01\nCOEHBM"


@dataclass(frozen=True, slots=True)
class LeftArena:
    """An arena whose owner is dead and that no process has mapped. `nbytes` is the memory that it occupies."""

    name: str
    nbytes: int


def left_arenas(folder: Path = SHARED_MEMORY) -> list[LeftArena]:
    return [LeftArena(path.name, path.stat().st_blocks * 512) for path in _arenas(folder) if _is_left(path)]


def remove(name: str, folder: Path = SHARED_MEMORY) -> bool:
    """Removes the arena and its lease socket, unless it has come into use meanwhile. Returns whether it was removed."""
    path = folder / name
    with _locked(path) as free:
        # Checked under the lock, so that no manager can adopt it meanwhile.
        if not free or _is_mapped(path):
            return False
        path.with_name(f"{name}.leases").unlink(missing_ok=True)
        path.unlink()
    return True


def arena_check(folder: Path = SHARED_MEMORY) -> Check:
    left = left_arenas(folder)
    listed = ", ".join(f"{arena.name} ({arena.nbytes // 2**20} MiB)" for arena in left)
    fix = "left by managers that were killed: `coe doctor --clean` removes them"
    return judged("arenas", not left, listed or "none left behind", fix, otherwise=Level.WARNING)


def _arenas(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob("*")):
        try:
            if path.is_file() and _first_bytes(path) == MAGIC:
                yield path
        except OSError:
            continue  # a socket, a directory, or another user's file


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(MAGIC))


def _is_left(path: Path) -> bool:
    with _locked(path) as free:
        return free and not _is_mapped(path)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Yields whether the arena has no owner. If so, it stays ownerless until the end of the block."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        # False if another arena has taken the name in between.
        yield path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _is_mapped(path: Path) -> bool:
    wanted = re.compile(rf"{path.stat().st_ino} +{re.escape(str(path))}$", re.MULTILINE)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted.search((process / "maps").read_text()):
                return True
        except OSError:
            continue  # it exited, or belongs to another user, who could not have mapped the arena
    return False
