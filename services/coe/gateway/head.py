"""Waits for what determines a response's head: the route, an early error, or a client's disconnect."""

import asyncio
from collections.abc import Awaitable

from starlette.requests import Request
from starlette.responses import Response

from coe.client.events import Completed, Routed, Text
from coe.gateway.reading import Reading, give_up
from coe.platform.errors import Cancelled, InternalError


async def until_routed(answer: Reading) -> Routed:
    """Waits for the prompt's routing. Raises the prompt's CoEError if it fails first."""
    while not isinstance(event := await answer.next(), Completed):
        if isinstance(event, Routed):
            return event
    raise InternalError("the prompt ended without a route")


async def until_settled(answer: Reading, within_s: float) -> None:
    """Waits up to `within_s` seconds for the first text or the end. `answer.next` returns the events read again.

    Raises the CoEError of a prompt that fails within that time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while not isinstance(event := await answer.ahead(until - loop.time()), Text | Completed):
        if event is None:
            return


async def while_connected(request: Request, answer: Awaitable[Response]) -> Response:
    """Returns the answer. If the client disconnects first, cancels the answer and raises Cancelled.

    The request's body must have been read already.
    """
    working, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the client disconnected")
        return working.result()
    finally:
        await asyncio.gather(give_up(working), give_up(gone))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
