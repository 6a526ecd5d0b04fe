"""The machine's resources: memory, shared memory, huge pages, locked memory, open files."""

import ctypes
import mmap
import platform
import re
import resource
import shutil
from pathlib import Path

import psutil

from coe.local.doctor.check import Check, Level, judged

_MIB = 2**20
_LEAST_MEMORY = 4096 * _MIB
_LEAST_SHARED = 1024 * _MIB
_LEAST_FILES = 4096
_MLOCK_ONFAULT = 1
# The first Linux version that collapses small pages into a huge page on request.
_COLLAPSES = (6, 1)
_SHARED_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


def machine_checks() -> list[Check]:
    return [_memory(), _shared_memory(), huge_pages(), locked_memory(), open_files()]


def _memory() -> Check:
    available = psutil.virtual_memory().available
    return judged(
        "memory", available >= _LEAST_MEMORY, f"{_mib(available)} available", "free some memory: 4 GiB are needed"
    )


def _shared_memory() -> Check:
    fix = "the HBM tier lives there: mount -o remount,size=4g /dev/shm (docker: --shm-size)"
    try:
        free = shutil.disk_usage("/dev/shm").free
    except FileNotFoundError:
        return Check("/dev/shm", Level.PROBLEM, "missing", fix)
    return judged("/dev/shm", free >= _LEAST_SHARED, f"{_mib(free)} free", fix)


def huge_pages() -> Check:
    """The file lists all modes, with the active one in brackets. If the system gives out no huge pages by itself, the
    arena requests them one by one.
    """
    try:
        line = _SHARED_HUGE_PAGES.read_text()
    except OSError:
        line = "[not built in]"
    mode = line.partition("[")[2].partition("]")[0]
    asked_for = mode == "never" and _kernel() >= _COLLAPSES
    good = asked_for or mode in ("advise", "always", "within_size", "force")
    found = f"{mode}, but available on request" if asked_for else mode
    fix = f"for faster expert switches: echo advise > {_SHARED_HUGE_PAGES}"
    return judged("huge pages in shared memory", good, found, fix, otherwise=Level.WARNING)


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", platform.release())[:2]))


def locked_memory() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = soft == resource.RLIM_INFINITY
    found = "unlimited" if unlimited else _mib(soft)
    good = can_lock(_LEAST_SHARED)
    if good and not unlimited and soft < _LEAST_SHARED:
        found = f"{found}, but this process is exempt from it"
    fix = "the DDR tier can't lock its weights in memory: ulimit -l unlimited (or grant CAP_IPC_LOCK)"
    return judged("locked memory", good, found, fix, otherwise=Level.WARNING)


def can_lock(nbytes: int) -> bool:
    """Asks the kernel, which knows limits and privileges. Takes no memory: the locked pages are never touched."""
    libc = ctypes.CDLL(None)
    with mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE) as room:
        start = ctypes.c_char.from_buffer(room)
        refused = libc.mlock2(ctypes.byref(start), ctypes.c_size_t(nbytes), _MLOCK_ONFAULT)
        # The mapping can't be closed while a pointer into it exists.
        del start
    return not refused


def open_files() -> Check:
    """Checks the hard limit: gateway, load generator, broker and Redis raise the soft one themselves."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    fix = f"this limits the gateway's callers: as root, ulimit -Hn {_LEAST_FILES} (docker: --ulimit nofile)"
    return judged("open files", most >= _LEAST_FILES, str(most), fix, otherwise=Level.WARNING)


def _mib(size: int) -> str:
    return f"{size // _MIB} MiB"
