"""Over HTTP too no prompt waits for another one's answer."""

import asyncio
from contextlib import AsyncExitStack

from coe._proto import events_pb2
from coe.client.events import Completed
from coe.local.ports import free_port
from coe.local.stackfile import StackInfo
from loadtest.transports import open_transport

PROMPTS = 400
HEAD = b"HTTP/1.1 %d OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BODY = b"data: [DONE]\n\n"


async def test_nobody_is_answered_before_all_have_asked() -> None:
    all_asked = asyncio.Barrier(PROMPTS)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"POST"):
            await all_asked.wait()
        writer.write(HEAD % 200 + BODY)
        writer.close()

    port = free_port()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", port, backlog=PROMPTS))
        way = await stack.enter_async_context(open_transport("http", StackInfo("", "", "", "", f"127.0.0.1:{port}")))

        async def ask() -> bool:
            events = [event async for event in way.submit(events_pb2.PromptSubmitted(prompt="hi"), timeout_s=30)]
            return isinstance(events[-1], Completed)

        assert all(await asyncio.gather(*(ask() for _ in range(PROMPTS))))
