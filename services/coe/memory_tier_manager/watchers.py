"""Notifies watchers of changes. A slow watcher misses intermediate states, but never the latest one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager


class Watchers:
    """Holds, per watcher, the set of experts whose latest state it has not seen: bounded by the number of experts."""

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
        """Yields the names of changed experts, in batches, from this call until `stopping` is set."""
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
