"""Server-sent events while nothing happens: proxies must not take the connection for dead."""

import asyncio
from collections.abc import AsyncGenerator

from coe._proto import events_pb2
from coe.client.events import Completed, Event, Text
from coe.gateway.sse import stream


async def test_comments_are_sent_while_nothing_comes_and_nothing_is_lost() -> None:
    go = asyncio.Event()
    closed = []

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Text("a", 0)
            await go.wait()
            yield Text("b", 0)
            yield Completed(events_pb2.PromptCompleted(completion=events_pb2.PromptCompleted.Completion(text="ab")))
        finally:
            closed.append(True)

    seen: list[str] = []
    async for line in stream(events(), "r", "expert", {}, with_usage=False, quiet_s=0.01):
        seen.append(line)
        if line.startswith(":"):
            go.set()
    comments = [line for line in seen if line.startswith(":")]
    assert comments
    assert set(comments) == {": waiting\n\n"}
    assert [text for line in seen for text in ("a", "b") if f'"content": "{text}"' in line] == ["a", "b"]
    assert seen[-1] == "data: [DONE]\n\n"
    assert closed


async def test_who_stops_reading_closes_the_events() -> None:
    closed = []

    async def events() -> AsyncGenerator[Event, None]:
        try:
            await asyncio.Event().wait()
            yield Text("never", 0)
        finally:
            closed.append(True)

    lines = stream(events(), "r", "expert", {}, with_usage=False, quiet_s=0.01)
    assert "role" in await anext(lines)
    assert (await anext(lines)).startswith(":")
    await lines.aclose()
    assert closed
