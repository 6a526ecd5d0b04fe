"""Waits until a started server answers. The wait is bounded and stops as soon as the process exits."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from coe.local.process import Child
from coe.platform.errors import Unavailable

# Seconds between attempts.
_INTERVAL_S = 0.05


async def until_ready(child: Child, answers: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """Returns once `answers()` is true.

    Raises Unavailable, with the end of the process's log, if the process exits first or `timeout_s` has passed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if not child.running:
            raise _failed(child, f"ended with status {child.returncode} while starting")
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _failed(child, f"was not ready within {timeout_s:.0f} s")
        try:
            if await asyncio.wait_for(answers(), remaining):
                return
        except TimeoutError:
            continue
        await asyncio.sleep(_INTERVAL_S)


async def accepts(host: str, port: int) -> bool:
    """Whether a TCP connection to the port is accepted."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def _failed(child: Child, what: str) -> Unavailable:
    if reason := child.why_ended():
        return Unavailable(f"{child.name} {what}: {reason}; its log: {child.log}", process=child.name)
    tail = child.log_tail()
    shown = f"; the end of its log ({child.log}):\n{tail}" if tail else f"; its log {child.log} is empty"
    return Unavailable(f"{child.name} {what}{shown}", process=child.name)
