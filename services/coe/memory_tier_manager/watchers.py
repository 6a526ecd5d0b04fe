"""Tells watchers what changed. A slow watcher misses states in between, never the newest one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager


class Watchers:
    """Holds, for each watcher, the experts whose state it has not seen yet: bounded by their number."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def changed(self, expert: str) -> None:
        for watcher in self._watchers:
            watcher.unseen[expert] = None
            watcher.wake.set()

    def __len__(self) -> int:
        return len(self._watchers)

    @contextmanager
    def follow(self, stopping: asyncio.Event) -> Iterator[AsyncIterator[list[str]]]:
        """Names of experts that changed since this call, batch by batch, until `stopping`."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield self._follow(watcher, stopping)
        finally:
            self._watchers.discard(watcher)

    async def _follow(self, watcher: "_Watcher", stopping: asyncio.Event) -> AsyncIterator[list[str]]:
        stop = asyncio.create_task(stopping.wait())
        wake = asyncio.create_task(watcher.wake.wait())
        try:
            while not stopping.is_set():
                await asyncio.wait({stop, wake}, return_when=asyncio.FIRST_COMPLETED)
                watcher.wake.clear()
                if wake.done():
                    wake = asyncio.create_task(watcher.wake.wait())
                names, watcher.unseen = list(watcher.unseen), {}
                yield names
        finally:
            stop.cancel()
            wake.cancel()


class _Watcher:
    def __init__(self) -> None:
        self.unseen: dict[str, None] = {}
        self.wake = asyncio.Event()
