"""Detects through a pidfd that a process has exited, immediately and however it exited.

This works only if worker and manager share a PID namespace: otherwise (in containers) the pid would be another
process's. There the end of the attach stream serves instead: the kernel closes a process's connections when it exits,
in any namespace.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coe.platform.pid_space import pid_space


@asynccontextmanager
async def process_end(pid: int, space: str) -> AsyncIterator[asyncio.Event]:
    """The event is set once the process has exited; never if `pid` is 0 or `space` is not our PID namespace."""
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
