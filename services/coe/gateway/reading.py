"""Reads a prompt's events for an HTTP response. A wait for the next event can time out and be resumed."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from coe.client.events import Completed, Event
from coe.platform.errors import CoEError, from_proto


class Reading:
    """Must be closed. Waits for events in a task of its own, which cancelling a reader does not cancel.

    When a client disconnects, Starlette cancels the streaming task repeatedly until it ends, so that task could not
    await the cleanup that ending a prompt requires.
    """

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        self._coming: asyncio.Future[Event] | None = None
        self._ahead: deque[Event] = deque()
        # Code of the error the prompt ended with.
        self.error: str | None = None

    async def next(self, within_s: float | None = None) -> Event | None:
        """The next event, or None if none arrives within `within_s`. Raises the prompt's CoEError if it failed."""
        return self._ahead.popleft() if self._ahead else await self._read(within_s)

    async def ahead(self, within_s: float | None) -> Event | None:
        """Reads ahead: like `next`, but `next` returns the event again."""
        event = await self._read(within_s)
        if event is not None:
            self._ahead.append(event)
        return event

    async def aclose(self) -> None:
        if self._coming is not None:
            await give_up(self._coming)
        await self._events.aclose()

    async def _read(self, within_s: float | None) -> Event | None:
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self._events))
        if not (await asyncio.wait({self._coming}, timeout=within_s))[0]:
            return None
        coming, self._coming = self._coming, None
        try:
            event = coming.result()
            if isinstance(event, Completed) and event.result.WhichOneof("outcome") == "error":
                raise from_proto(event.result.error)
        except CoEError as error:
            self.error = error.code
            raise
        return event


async def give_up(work: asyncio.Future[Any]) -> None:
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
    if not work.cancelled():
        # Retrieves the exception, so that asyncio does not log it as never retrieved.
        work.exception()
