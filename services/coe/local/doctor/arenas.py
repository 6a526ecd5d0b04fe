"""Finds HBM arenas that killed managers left in shared memory, and removes those that are no longer used.

The kernel knows the owner, which holds a lock on the arena as long as it lives. An arena without one that a worker has
mapped, as /proc shows, is left alone: generations run on it, and the next manager adopts it.
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
    """Its owner is dead and nobody has it mapped. Bytes of memory that it takes."""

    name: str
    nbytes: int


def left_arenas(folder: Path = SHARED_MEMORY) -> list[LeftArena]:
    return [LeftArena(path.name, path.stat().st_blocks * 512) for path in _arenas(folder) if _is_left(path)]


def remove(name: str, folder: Path = SHARED_MEMORY) -> bool:
    """Removes it with its lease socket, unless somebody has use for it by now."""
    path = folder / name
    with _locked(path) as free:
        # Looked at under the lock: no manager can adopt it meanwhile.
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
            continue  # a socket, a folder, another user's


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(MAGIC))


def _is_left(path: Path) -> bool:
    with _locked(path) as free:
        return free and not _is_mapped(path)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether it had no owner; it has none either until the end of the block."""
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
        # Not of an arena that took the name in between.
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
            continue  # it ended, or is another user's, who could not map it
    return False
