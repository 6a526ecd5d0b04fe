"""What is published of a prompt, and who follows its answer."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from coe._proto import events_pb2
from coe.client import prompts
from coe.client.ended import Ended
from coe.client.events import Completed, Event, Routed, Text
from coe.client.prompts import PromptClient
from coe.platform import topics
from coe.platform.bus.api import Outgoing, Record
from coe.platform.bus.codec import decode
from coe.platform.bus.memory import MemoryBroker, MemoryBus

WAIT_S = 10.0


@pytest.fixture
async def bus() -> MemoryBus:
    return MemoryBus(MemoryBroker())


@pytest.fixture
async def client(bus: MemoryBus) -> AsyncIterator[PromptClient]:
    async with PromptClient(bus, max_streams=2) as client:
        yield client


def on(bus: MemoryBus, topic: str) -> list[Record]:
    return [record for log in bus.broker.partitions(topic) for record in log]


async def published(bus: MemoryBus, topic: str, count: int = 1) -> list[Record]:
    async with asyncio.timeout(WAIT_S):
        while len(found := on(bus, topic)) < count:
            await bus.broker.change()
    return found


def asking(
    client: PromptClient, prompt: events_pb2.PromptSubmitted, timeout_s: float = 60.0
) -> "asyncio.Task[list[Event]]":
    async def follow() -> list[Event]:
        return [event async for event in client.submit(prompt, timeout_s=timeout_s)]

    return asyncio.create_task(follow())


def answered(*, as_json: bool = False) -> list[Outgoing]:
    chunk = events_pb2.TokenChunk(request_id="r", text={"text": "He"})
    end = events_pb2.PromptCompleted(request_id="r", completion={"text": "Hello"})
    topic = ((topics.TOKENS, chunk), (topics.COMPLETIONS, end))
    return [Outgoing(name, "r", message, as_json=as_json) for name, message in topic]


async def gone(task: "asyncio.Task[list[Event]]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_prompt_without_times_gets_them(bus: MemoryBus, client: PromptClient) -> None:
    before = time.time_ns() // 1_000_000
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    task = asking(client, prompt, timeout_s=60)
    (record,) = await published(bus, topics.PROMPTS)
    sent = decode(record, events_pb2.PromptSubmitted)
    assert before <= sent.submitted_at_ms <= time.time_ns() // 1_000_000
    assert sent.deadline_ms == sent.submitted_at_ms + 60_000
    # The caller's message is not touched: submitted again, it has other times.
    assert (prompt.submitted_at_ms, prompt.deadline_ms) == (0, 0)
    await gone(task)


async def test_times_that_a_prompt_has_are_kept(bus: MemoryBus, client: PromptClient) -> None:
    mine = events_pb2.PromptSubmitted(request_id="r", prompt="hi", submitted_at_ms=3, deadline_ms=7)
    endless = events_pb2.PromptSubmitted(request_id="s", prompt="hi")
    tasks = [asking(client, mine), asking(client, endless, timeout_s=float("inf"))]
    sent = [decode(record, events_pb2.PromptSubmitted) for record in await published(bus, topics.PROMPTS, 2)]
    times = {one.request_id: (one.submitted_at_ms, one.deadline_ms) for one in sent}
    assert times["r"] == (3, 7)
    assert times["s"][1] == 0
    for task in tasks:
        await gone(task)


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_answer_is_read_in_either_form(bus: MemoryBus, client: PromptClient, as_json: bool) -> None:
    task = asking(client, events_pb2.PromptSubmitted(request_id="r", prompt="hi"))
    await published(bus, topics.PROMPTS)
    for outgoing in answered(as_json=as_json):
        await bus.publish(outgoing)
    *texts, end = await asyncio.wait_for(task, WAIT_S)
    assert "".join(event.text for event in texts if isinstance(event, Text)) == "Hello"
    assert isinstance(end, Completed)


async def test_two_may_follow_one_prompt(bus: MemoryBus, client: PromptClient) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    tasks = [asking(client, prompt), asking(client, prompt)]
    await published(bus, topics.PROMPTS, 2)
    for outgoing in answered():
        await bus.publish(outgoing)
    for task in tasks:
        assert isinstance((await asyncio.wait_for(task, WAIT_S))[-1], Completed)


async def test_who_follows_later_has_what_came_before(bus: MemoryBus, client: PromptClient) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    chunk, end = answered()
    first = client.submit(prompt, timeout_s=60)
    routed = asyncio.ensure_future(anext(first))
    await published(bus, topics.PROMPTS)
    assigned = events_pb2.PromptAssigned(prompt=prompt, assignment={"expert_id": "expert"})
    await bus.publish(Outgoing(topics.ASSIGNMENTS, "expert", assigned))
    assert isinstance(await asyncio.wait_for(routed, WAIT_S), Routed)
    await bus.publish(chunk)
    assert await asyncio.wait_for(anext(first), WAIT_S) == Text("He", 0)
    second = client.submit(prompt, timeout_s=60)
    assert isinstance(await asyncio.wait_for(anext(second), WAIT_S), Routed)
    assert await asyncio.wait_for(anext(second), WAIT_S) == Text("He", 0)
    await bus.publish(end)
    for follower in (first, second):
        text, last = [event async for event in follower]
        assert text == Text("llo", 0)
        assert isinstance(last, Completed)


async def test_a_prompt_is_cancelled_when_the_last_follower_goes(bus: MemoryBus, client: PromptClient) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    first, second = asking(client, prompt), asking(client, prompt)
    await published(bus, topics.PROMPTS, 2)
    await gone(first)
    assert on(bus, topics.CANCELLATIONS) == []
    await gone(second)
    assert len(on(bus, topics.CANCELLATIONS)) == 1
    # Both places are free again.
    again = [asking(client, events_pb2.PromptSubmitted(request_id=name, prompt="hi")) for name in "st"]
    await published(bus, topics.PROMPTS, 4)
    for task in again:
        await gone(task)


@pytest.fixture
async def remembering(bus: MemoryBus) -> AsyncIterator[PromptClient]:
    async with PromptClient(bus, ended=Ended(600, 2**20)) as client:
        yield client


async def test_who_comes_after_the_end_is_told_that_the_id_is_spent(bus: MemoryBus, remembering: PromptClient) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    task = asking(remembering, prompt)
    await published(bus, topics.PROMPTS)
    failed = events_pb2.PromptCompleted(request_id="r", error={"code": "expert_not_found", "message": "gone"})
    await bus.publish(Outgoing(topics.COMPLETIONS, "r", failed, as_json=True))
    ends = [(await asyncio.wait_for(one, WAIT_S))[-1] for one in (task, asking(remembering, prompt))]
    assert len(on(bus, topics.PROMPTS)) == 1
    assert all(isinstance(end, Completed) and end.result.error.code == "expert_not_found" for end in ends)
    said = [end.result.error.message for end in ends if isinstance(end, Completed)]
    assert said[0] == "gone"
    assert said[1].startswith("gone (so ended the first prompt of this request id")


async def test_a_prompt_that_was_given_up_runs_anew(bus: MemoryBus, remembering: PromptClient) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    # The first goes away; the second comes before anybody heard of it, and is late; the third has its answer.
    first = asking(remembering, prompt)
    await published(bus, topics.PROMPTS, 1)
    await gone(first)
    second = asking(remembering, prompt)
    await published(bus, topics.PROMPTS, 2)
    late = events_pb2.PromptCompleted(request_id="r~2", error={"code": "deadline_exceeded"})
    await bus.publish(Outgoing(topics.COMPLETIONS, "r~2", late))
    await asyncio.wait_for(second, WAIT_S)
    third = asking(remembering, prompt)
    await published(bus, topics.PROMPTS, 3)
    answer = events_pb2.PromptCompleted(request_id="r~3", completion={"text": "Hello"})
    await bus.publish(Outgoing(topics.COMPLETIONS, "r~3", answer))
    ends = [(await asyncio.wait_for(one, WAIT_S))[-1] for one in (third, asking(remembering, prompt))]
    assert [(end.result.request_id, end.result.completion.text) for end in ends if isinstance(end, Completed)] == [
        ("r", "Hello"),
        ("r", "Hello"),
    ]
    sent = [decode(record, events_pb2.PromptSubmitted).request_id for record in on(bus, topics.PROMPTS)]
    assert sorted(sent) == ["r", "r~2", "r~3"]
    assert [record.key for record in on(bus, topics.CANCELLATIONS)] == [b"r"]


async def test_a_prompt_whose_error_says_to_try_again_runs_anew_but_not_for_ever(
    bus: MemoryBus, remembering: PromptClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_MOST_RUNS", 3)
    prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hi")
    names = ["r", "r~2", "r~3"]
    for count, name in enumerate(names, start=1):
        task = asking(remembering, prompt)
        await published(bus, topics.PROMPTS, count)
        full = events_pb2.PromptCompleted(request_id=name, error={"code": "capacity_exceeded"})
        await bus.publish(Outgoing(topics.COMPLETIONS, name, full))
        await asyncio.wait_for(task, WAIT_S)
    (end,) = await asyncio.wait_for(asking(remembering, prompt), WAIT_S)
    assert isinstance(end, Completed)
    assert end.result.error.code == "capacity_exceeded"
    assert sorted(record.key or b"" for record in on(bus, topics.PROMPTS)) == [name.encode() for name in names]


async def test_an_id_without_room_for_another_run_keeps_its_end(bus: MemoryBus, remembering: PromptClient) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r" * 255, prompt="hi")
    first = asking(remembering, prompt)
    await published(bus, topics.PROMPTS)
    await gone(first)
    (end,) = await asyncio.wait_for(asking(remembering, prompt), WAIT_S)
    assert isinstance(end, Completed)
    assert end.result.error.code == "cancelled"
