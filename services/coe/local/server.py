"""The base class of the stack's servers: start, stop, and use as a context manager, async or not."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from coe.local.process import Child
from coe.local.readiness import until_ready


class LocalServer(ABC):
    """A server process on a loopback port. Use `async with`, or plain `with` where no event loop runs."""

    def __init__(self) -> None:
        self._child: Child | None = None

    @abstractmethod
    async def start(self) -> None:
        """Returns when the server answers. Raises Unavailable, with the end of its log, if it does not in time."""

    async def _run(self, child: Child, answers: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Starts `child` and waits until it answers; kills it if it does not in time."""
        self._child = child
        child.start()
        try:
            await until_ready(child, answers, timeout_s)
        except BaseException:
            child.kill()
            await child.wait()
            raise

    async def stop(self) -> None:
        """Stops it in order, or kills it after a grace period. Does nothing if it is not running."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    @property
    def child(self) -> Child | None:
        """The process, for its supervisor; None while it is stopped."""
        return self._child

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        asyncio.run(self.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run(self.stop())
