"""What the servers that are started here have in common: start, stop, use as a context from async or plain code."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from coe.local.process import Child
from coe.local.readiness import until_ready


class LocalServer(ABC):
    """A server process on a loopback port. `async with`, or plain `with` where no event loop runs."""

    def __init__(self) -> None:
        self._child: Child | None = None

    @abstractmethod
    async def start(self) -> None:
        """Returns when the server answers. Raises Unavailable, with the end of its log, when it does not in time."""

    async def _run(self, child: Child, answers: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """What does not answer in time is ended by force."""
        self._child = child
        child.start()
        try:
            await until_ready(child, answers, timeout_s)
        except BaseException:
            child.kill()
            await child.wait()
            raise

    async def stop(self) -> None:
        """Orderly end, by force after a grace time. Harmless when it does not run."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    @property
    def child(self) -> Child | None:
        """The process, for who watches it; None while it does not run."""
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
