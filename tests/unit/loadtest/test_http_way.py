"""What comes over HTTP, and what of it is an answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from coe._proto import common_pb2, events_pb2
from coe.client.events import Completed, Event, Text
from coe.platform.errors import CapacityExceeded, DeadlineExceeded, InternalError, Unauthenticated, Unavailable
from loadtest.overhttp import HttpTransport

PROMPT = events_pb2.PromptSubmitted(prompt="hello", sampling=common_pb2.SamplingParams(max_tokens=3))
HEAD, DONE = {"x-coe-expert": "echo"}, "data: [DONE]\n\n"


def chunk(text: str = "", finish: str | None = None) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}, 'finish_reason': finish}]})}\n\n"


USAGE = f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 2}})}\n\n"


async def asked(answer: Callable[[httpx.Request], httpx.Response], timeout_s: float = 20.0) -> list[Event]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://gateway") as client:
        return [event async for event in HttpTransport([client]).submit(PROMPT, timeout_s=timeout_s)]


def stream(*parts: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, headers=HEAD, text="".join(parts))


async def test_comments_of_a_prompt_that_waits_are_no_events() -> None:
    events = await asked(
        stream(chunk(), ": waiting\n\n", chunk("hel"), ": waiting\n\n", chunk("lo", "length"), USAGE, DONE)
    )
    assert "".join(event.text for event in events if isinstance(event, Text)) == "hello"
    assert isinstance(last := events[-1], Completed)
    assert last.result.completion.finish_reason == "length"
    assert last.result.usage.completion_tokens == 2
    assert last.result.assignment.expert_id == "echo"


async def test_an_answer_that_breaks_off_is_none() -> None:
    with pytest.raises(Unavailable, match="cut off"):
        await asked(stream(chunk("hel")))


@pytest.mark.parametrize(
    "line", ["data: <html>\n\n", "data: 1\n\n", 'data: {"error": "x"}\n\n', 'data: {"choices": [1]}\n\n']
)
async def test_what_is_no_chunk_fails_its_prompt_alone(line: str) -> None:
    with pytest.raises(InternalError, match="not a chat completion chunk"):
        await asked(stream(chunk("hel"), line, DONE))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, '{"error": {"code": "capacity_exceeded", "message": "full"}}', CapacityExceeded),
        (401, '{"error": {"code": "invalid_api_key", "message": "no"}}', Unauthenticated),
        # Of what stands in front of the gateway.
        (429, "slow down", CapacityExceeded),
        (503, "<html>", Unavailable),
        (504, b"\xff\xfe", DeadlineExceeded),
        (500, "[]", InternalError),
    ],
)
async def test_refusals_keep_their_meaning(status: int, body: str | bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await asked(lambda _: httpx.Response(status, content=body))


async def test_comments_make_no_deadline_longer() -> None:
    async def for_ever() -> AsyncIterator[bytes]:
        while True:
            yield b": waiting\n\n"
            await asyncio.sleep(0.01)

    with pytest.raises(DeadlineExceeded):
        await asked(lambda _: httpx.Response(200, content=for_ever()), timeout_s=0.1)


async def test_the_gateway_is_told_the_deadline() -> None:
    told: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers["x-coe-timeout-s"])
        return httpx.Response(200, text=DONE)

    await asked(answer, timeout_s=17.5)
    assert [float(seconds) for seconds in told] == [17.5]
