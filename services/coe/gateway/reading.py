"""A prompt's events for whoever answers over HTTP: waiting for the next one may end without an event, and go on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from coe.client.events import Completed, Event
from coe.platform.errors import CoEError, from_proto


class Reading:
    """Close it. Events are waited for in a task of their own: who is cancelled meanwhile leaves that one alone.

    When a client hangs up, Starlette cancels what streams to it again and again until it has ended: nothing could be
    waited for in there that the end of a prompt needs.
    """

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        self._coming: asyncio.Future[Event] | None = None
        self._ahead: deque[Event] = deque()
        # Of the error that the prompt ended with.
        self.error: str | None = None

    async def next(self, within_s: float | None = None) -> Event | None:
        """The next event; None when none came for so long. Raises the CoEError that the prompt ended with."""
        return self._ahead.popleft() if self._ahead else await self._read(within_s)

    async def ahead(self, within_s: float | None) -> Event | None:
        """The same of what was not read yet; `next` gives it again."""
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
        # Nobody else asks for it: an error of it is not one that was forgotten.
        work.exception()
