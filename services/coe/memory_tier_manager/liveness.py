"""Notices the end of a process at once, however it ends, through a pidfd.

Only where worker and manager share a PID namespace. Elsewhere (containers) the number would be another process's, and
the end of the attach stream tells: the kernel closes its connection with the process, in whatever namespace that is.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coe.platform.pid_space import pid_space


@asynccontextmanager
async def process_end(pid: int, space: str) -> AsyncIterator[asyncio.Event]:
    """The event is set when the process has ended. Never, when the pid is 0 or `space` is not ours."""
    ended = asyncio.Event()
    descriptor = _open(pid) if space and space == pid_space() else None
    if descriptor is None:
        yield ended
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open(pid: int) -> int | None:
    if pid <= 0:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
