"""Server-sent events while nothing happens: proxies must not take the connection for dead."""

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from coe._proto import common_pb2, events_pb2
from coe.client.events import Completed, Event, Text
from coe.gateway.dialects.asked import Head
from coe.gateway.dialects.chat import ChatRequest
from coe.gateway.reading import Reading
from coe.gateway.sse import EventStream, Telling, stream


def telling(**fields: object) -> Telling:
    asked = {"messages": [{"role": "user", "content": "hello"}], **fields}
    return ChatRequest.model_validate(asked).telling(Head("r", "expert", 1, {}))


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
    answer = Reading(events())
    async for line in stream(answer, telling(), quiet_s=0.01):
        seen.append(line)
        if line.startswith(":"):
            go.set()
    comments = [line for line in seen if line.startswith(":")]
    assert comments
    assert set(comments) == {": waiting\n\n"}
    assert [text for line in seen for text in ("a", "b") if f'"content": "{text}"' in line] == ["a", "b"]
    assert seen[-1] == "data: [DONE]\n\n"
    await answer.aclose()
    assert closed


async def test_calls_come_whole_behind_the_text() -> None:
    calls = [
        common_pb2.ToolCall(id="call_1", name="f", arguments='{"a": 1}'),
        common_pb2.ToolCall(id="call_2", name="g", arguments="{}"),
    ]
    ended = events_pb2.PromptCompleted.Completion(text="a", finish_reason="tool_calls", tool_calls=calls)

    async def events() -> AsyncGenerator[Event, None]:
        yield Text("a", 0)
        yield Completed(events_pb2.PromptCompleted(completion=ended))

    lines = [line async for line in stream(Reading(events()), telling())]
    choices = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    assert [choice["delta"].get("content") for choice in choices] == ["", "a", None, None]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "tool_calls"]
    assert choices[2]["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


async def test_a_restarted_answer_goes_on_where_it_was_and_tells_of_no_token_twice() -> None:
    def came(text: str, tokens: str, attempt: int = 0) -> Text:
        logprobs = [common_pb2.TokenLogprob(token=one.encode(), logprob=-0.5) for one in tokens.split()]
        return Text(text, attempt, tuple(logprobs))

    async def events() -> AsyncGenerator[Event, None]:
        yield came("Hel", "Hel l")
        yield came("lo", "o")
        # What the text waits for is told before.
        yield came("He", "Hel l o wor", 1)
        yield came("llo wor", "", 1)
        yield came("", "ld", 1)
        # Another answer can't be put in the place of the first.
        yield came("Good", "Good bye", 2)
        yield Completed(events_pb2.PromptCompleted(completion=events_pb2.PromptCompleted.Completion(text="Good")))

    lines = [line async for line in stream(Reading(events()), telling(logprobs=True))]
    choices = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    assert [
        (choice["delta"].get("content"), [one["token"] for one in choice.get("logprobs", {}).get("content", [])])
        for choice in choices
    ] == [("", []), ("Hel", ["Hel", "l"]), ("lo", ["o"]), (" wor", ["wor"]), ("", ["ld"]), (None, [])]


async def test_an_answer_that_is_waited_for_can_be_closed() -> None:
    closed = []

    async def events() -> AsyncGenerator[Event, None]:
        try:
            await asyncio.Event().wait()
            yield Text("never", 0)
        finally:
            # As a cancellation of the prompt is written.
            await asyncio.sleep(0)
            closed.append(True)

    answer = Reading(events())
    lines = stream(answer, telling(), quiet_s=0.01)
    assert "role" in await anext(lines)
    assert (await anext(lines)).startswith(":")
    await answer.aclose()
    assert closed


async def test_a_stream_of_which_nothing_was_sent_closes_its_answer() -> None:
    closed = []

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Text("a", 0)
            yield Text("b", 0)
        finally:
            closed.append(True)

    async def send(message: Message) -> None:
        raise OSError

    answer = Reading(events())
    await answer.ahead(None)
    body = stream(answer, telling())
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "state": {}}
    with pytest.raises(ClientDisconnect):
        await EventStream(body, answer, {})(scope, send, send)
    assert closed


async def test_an_event_is_one_line_however_lines_are_told() -> None:
    """Clients that read lines as text end them at more characters than the standard does."""
    text = "a\u2028b\x85c\u2029\x0b\x0c\x1cd\r\n"

    async def events() -> AsyncGenerator[Event, None]:
        yield Text(text, 0)
        yield Completed(events_pb2.PromptCompleted(completion=events_pb2.PromptCompleted.Completion(text=text)))

    lines = "".join([part async for part in stream(Reading(events()), telling())]).splitlines()
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
