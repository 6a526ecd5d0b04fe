"""A request id is one prompt's: whoever submits another one under it is told so, and has no answer of the first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from coe._proto import events_pb2
from coe.client.ended import Ended
from coe.client.events import Completed, Event, Routed, Text
from coe.client.prompts import PromptClient
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.bus.messages import Message
from coe.platform.digest import DIGEST_HEADER
from coe.platform.errors import RequestIdReused
from support.pipeline import Pipeline, answer_of, pipeline

WAIT_S = 10.0


def prompt(text: str, expert: str = "") -> events_pb2.PromptSubmitted:
    return events_pb2.PromptSubmitted(request_id="r", prompt=text, expert_id=expert)


@pytest.fixture
async def path() -> AsyncIterator[Pipeline]:
    async with pipeline(MemoryBroker()) as path:
        yield path


@pytest.fixture
async def client(path: Pipeline) -> AsyncIterator[PromptClient]:
    async with PromptClient(MemoryBus(path.bus.broker), ended=Ended(600, 2**20)) as client:
        yield client


async def ask(client: PromptClient, asked: events_pb2.PromptSubmitted) -> list[Event]:
    async with asyncio.timeout(WAIT_S):
        return [event async for event in client.submit(asked, timeout_s=60)]


def end(events: list[Event]) -> events_pb2.PromptCompleted:
    assert isinstance(events[-1], Completed)
    return events[-1].result


async def test_of_a_prompt_that_has_ended(client: PromptClient, path: Pipeline) -> None:
    assert end(await ask(client, prompt("olleh"))).completion.text == "hello"
    with pytest.raises(RequestIdReused):
        await ask(client, prompt("eyb"))
    assert end(await ask(client, prompt("olleh"))).completion.text == "hello"
    assert sum(map(len, path.bus.broker.partitions(topics.PROMPTS))) == 1


async def test_of_a_prompt_that_runs(client: PromptClient) -> None:
    first = client.submit(prompt("olleh", "slow"), timeout_s=60)
    assert isinstance(await asyncio.wait_for(anext(first), WAIT_S), Routed)
    with pytest.raises(RequestIdReused):
        await ask(client, prompt("eyb", "slow"))
    await first.aclose()


async def test_of_a_prompt_that_was_given_up(client: PromptClient) -> None:
    first = client.submit(prompt("olleh", "slow"), timeout_s=60)
    await asyncio.wait_for(anext(first), WAIT_S)
    await first.aclose()
    with pytest.raises(RequestIdReused):
        await ask(client, prompt("eyb", "slow"))


async def test_of_a_prompt_that_runs_through_another_gateway(client: PromptClient, path: Pipeline) -> None:
    """Which tells it by the answer alone: the router drops what comes second."""

    async def dropped(_: events_pb2.PromptSubmitted) -> None:
        asked.set()

    asked = asyncio.Event()
    async with PromptClient(MemoryBus(path.bus.broker), publish=dropped) as other:
        second = asyncio.create_task(ask(other, prompt("eyb")))
        await asked.wait()
        assert end(await ask(client, prompt("olleh"))).completion.text == "hello"
        events = await second
    assert end(events).error.code == "request_id_reused"
    assert not any(isinstance(event, Routed | Text) for event in events)
    assert not any(path.bus.broker.partitions(topics.CANCELLATIONS))


async def test_the_same_prompt_through_another_gateway_has_the_answer(client: PromptClient, path: Pipeline) -> None:
    async with PromptClient(MemoryBus(path.bus.broker), ended=Ended(600, 2**20)) as other:
        await ask(client, prompt("olleh"))
        assert end(await ask(other, prompt("olleh"))).completion.text == "hello"


async def test_an_answer_to_a_producer_that_says_nothing_of_its_prompt_is_anybodys(client: PromptClient) -> None:
    bus = MemoryBus(MemoryBroker())
    async with PromptClient(bus) as client:
        asking = asyncio.create_task(ask(client, prompt("eyb")))
        while not any(bus.broker.partitions(topics.PROMPTS)):
            await bus.broker.change()
        for outgoing in answer_of(prompt("olleh")):
            await bus.publish(outgoing)
        assert end(await asking).completion.text == "hello"


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_end_is_remembered_as_it_came(as_json: bool) -> None:
    """Protobuf is not written anew: here the fields are in another order than we would have them."""
    broker, ended = MemoryBroker(), Ended(600, 2**20)
    bus = MemoryBus(broker)
    parts = [
        events_pb2.PromptCompleted(worker="w"),
        events_pb2.PromptCompleted(request_id="r", completion={"text": "a"}),
    ]
    value = b"".join(part.SerializeToString() for part in parts)
    whole = events_pb2.PromptCompleted.FromString(value)
    assert whole.SerializeToString() != value
    async with PromptClient(bus, ended=ended) as client:
        asking = asyncio.create_task(ask(client, prompt("eyb")))
        while not any(broker.partitions(topics.PROMPTS)):
            await broker.change()
        if as_json:
            await bus.publish(Outgoing(topics.COMPLETIONS, "r", whole, as_json=True))
        else:
            headers: list[tuple[str, bytes | None]] = [(DIGEST_HEADER, b"0" * 15)]
            broker.append(Message(topics.COMPLETIONS, b"r", value, headers))
        assert end(await asking).worker == "w"
    remembered = ended.get("r")
    assert remembered is not None
    assert remembered.endswith(whole.SerializeToString() if as_json else value)
