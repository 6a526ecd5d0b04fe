"""Waiting on what can't wake us, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Raises TimeoutError when the condition is not true within `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_true(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """The same for what this process alone changes: looked at again each millisecond."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
