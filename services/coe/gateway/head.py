"""What decides a response's head, and when nothing comes: the route, an early error, a client that has gone away."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from coe.client.events import Completed, Event, Routed, Text
from coe.platform.errors import Cancelled, InternalError, from_proto

Events = AsyncGenerator[Event, None]


async def until_routed(events: Events) -> Routed:
    """The routing of the prompt: the first thing that happens to it, unless it fails before."""
    async for event in events:
        if isinstance(event, Routed):
            return event
        raise_error(event)
    raise InternalError("the prompt ended without a route")


async def until_settled(events: Events, within_s: float) -> Events:
    """The same events, once the first text or the end is among them, or `within_s` seconds have passed.

    Raises the error of a prompt that fails within that time. What it returns has to be closed.
    """
    held: list[Event] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    coming = asyncio.ensure_future(anext(events))
    try:
        while (await asyncio.wait({coming}, timeout=until - loop.time()))[0]:
            held.append(event := coming.result())
            raise_error(event)
            if isinstance(event, Text | Completed):
                return _again(held, None, events)
            coming = asyncio.ensure_future(anext(events))
    except BaseException:
        await _give_up(coming)
        raise
    return _again(held, coming, events)


async def with_pauses(events: Events, quiet_s: float) -> AsyncGenerator[Event | None, None]:
    """The same events, and None whenever none came for so long."""
    async with aclosing(events):
        while True:
            coming = asyncio.ensure_future(anext(events, None))
            try:
                while not (await asyncio.wait({coming}, timeout=quiet_s))[0]:
                    yield None
                event = coming.result()
            finally:
                await _give_up(coming)
            if event is None:
                return
            yield event


async def while_connected(request: Request, answer: Awaitable[Response]) -> Response:
    """The answer. When the client, whose body is read, goes away before: cancels it and raises Cancelled."""
    working, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the client went away")
        return working.result()
    finally:
        await asyncio.gather(_give_up(working), _give_up(gone))


def raise_error(event: Event) -> None:
    """Raises the CoEError that a prompt ended with."""
    if isinstance(event, Completed) and event.result.WhichOneof("outcome") == "error":
        raise from_proto(event.result.error)


async def _again(held: list[Event], coming: asyncio.Future[Event] | None, events: Events) -> Events:
    async with aclosing(events):
        try:
            for event in held:
                yield event
            if coming is not None:
                yield await coming
        finally:
            if coming is not None:
                await _give_up(coming)
        async for event in events:
            yield event


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _give_up(work: asyncio.Future[Any]) -> None:
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
    if not work.cancelled():
        # Nobody else asks for it: an error of it is not one that was forgotten.
        work.exception()
