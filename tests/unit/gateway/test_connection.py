"""Connections on which no request begins, or no answer is read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from coe.gateway import connection
from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.local.ports import free_port
from support.deadlines import until_true

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
WAIT_S = 20.0
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


@asynccontextmanager
async def served(
    answer: Callable[[Request], Awaitable[Response]], max_connection_age_s: float = 0.0
) -> AsyncIterator[Opened]:
    """A connection of a client's with a server that has this one page."""
    settings = GatewaySettings(http_port=free_port())
    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
    server = HttpServer(app, settings, 0, max_connection_age_s)
    serving = asyncio.ensure_future(server.run_until_cancelled())
    await until_true(lambda: server.started)
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.http_port)
    yield reader, writer
    writer.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    monkeypatch.setattr(connection, "HEAD_S", 0.1)
    async with served(hello) as opened:
        yield opened


async def test_nothing_comes(opened: Opened) -> None:
    assert await asyncio.wait_for(opened[0].read(), WAIT_S) == b""


@pytest.mark.parametrize("before", [b"", GET, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n"])
async def test_it_comes_in_drops(opened: Opened, before: bytes) -> None:
    """Of a head, after another request too, and of a body that nobody asks for any more."""
    reader, writer = opened
    if before:
        writer.write(before)
        assert (await asyncio.wait_for(reader.readuntil(b"hello"), WAIT_S)).startswith(b"HTTP/1.1 200")

    async def drip() -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"G" if before[:1] != b"P" else b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    dripping.cancel()


async def test_an_answer_that_is_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_S", 0.1)
    given_up = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 2**16
                await asyncio.sleep(0)
        finally:
            given_up.set()

    async def answer(_: Request) -> Response:
        return StreamingResponse(endless())

    async with served(answer) as (_, writer):
        writer.write(GET)
        await asyncio.wait_for(given_up.wait(), WAIT_S)


async def said(opened: Opened) -> bytes:
    """The head of an answer, read to its end."""
    reader, writer = opened
    writer.write(GET)
    head, _, _ = (await asyncio.wait_for(reader.readuntil(b"hello"), WAIT_S)).partition(b"\r\n\r\n")
    return head


async def test_a_connection_of_some_age_ends_behind_the_answer_that_says_so() -> None:
    async with served(hello, 1e-6) as opened:
        assert b"\r\nconnection: close" in await said(opened)
        assert await asyncio.wait_for(opened[0].read(), WAIT_S) == b""


@pytest.mark.parametrize("age_s", [0.0, 1000.0])
async def test_a_younger_one_is_kept(age_s: float) -> None:
    async with served(hello, age_s) as opened:
        for _ in range(2):
            assert b"connection" not in await said(opened)


async def test_what_a_proxy_may_take_for_a_body_is_no_request() -> None:
    """The length that is said twice ends the body here, where another would read on."""
    two_lengths = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    async with served(hello) as (reader, writer):
        writer.write(two_lengths + GET)
        answers = await asyncio.wait_for(reader.read(), WAIT_S)
    assert answers.count(b"HTTP/1.1 200") == 1
    assert b"\r\nconnection: close" in answers
