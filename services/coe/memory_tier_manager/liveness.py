"""Notices the end of a process at once, however it ends, through a pidfd."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def process_end(pid: int) -> AsyncIterator[asyncio.Event]:
    """The event is set when the process has ended. Never, when the pid is 0 or of another host (then its stream's
    end has to do)."""
    ended = asyncio.Event()
    descriptor = _open(pid)
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
