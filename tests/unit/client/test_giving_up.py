"""Who gives up because the broker is away is not held up by it."""

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing

import pytest

from coe._proto import events_pb2
from coe.cli import servers
from coe.client import prompts
from coe.client.prompts import PromptClient
from coe.platform import topics
from coe.platform.bus.api import Bus, Outgoing
from coe.platform.bus.memory import MemoryBus
from coe.platform.errors import DeadlineExceeded, Unavailable


class Away(MemoryBus):
    """Its broker took the prompt, and takes nothing any more."""

    async def post(self, outgoing: Outgoing) -> None:
        await asyncio.Event().wait()

    async def healthy(self) -> bool:
        return False


class Hanging(Away):
    """Its broker takes nothing and says nothing."""

    async def publish(self, outgoing: Outgoing) -> None:
        await asyncio.Event().wait()


async def ask(bus: Bus, timeout_s: float = 0.05) -> None:
    async with PromptClient(bus) as client:
        prompt = events_pb2.PromptSubmitted(prompt="hello")
        async with aclosing(client.submit(prompt, timeout_s=timeout_s)) as events:
            async for _ in events:
                pytest.fail("nobody answers here")


async def ask_as_a_command() -> None:
    async with servers.connect("127.0.0.1:9") as bus:
        await ask(bus)


async def test_the_cancellation_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "_CANCEL_S", 0.05)
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.1 s: the prompt got no expert"):
        await ask(Away())


async def test_a_prompt_that_got_its_expert_is_not_said_to_have_none() -> None:
    async with PromptClient(bus := MemoryBus()) as client:
        prompt = events_pb2.PromptSubmitted(request_id="r", prompt="hello")
        async with aclosing(client.submit(prompt, timeout_s=0.5)) as events:
            routed = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await bus.publish(Outgoing(topics.ASSIGNMENTS, "expert", events_pb2.PromptAssigned(prompt=prompt)))
            await routed
            with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.5 s$"):
                await anext(events)


@pytest.mark.parametrize(("bus", "said"), [(Away(), "answers at 127.0.0.1:9 any more"), (MemoryBus(), "no answer")])
async def test_a_command_says_that_the_broker_went_away(
    bus: MemoryBus, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_CANCEL_S", 0.05)
    monkeypatch.setattr(servers, "KafkaBus", lambda *_, **__: bus)
    with pytest.raises(Unavailable if isinstance(bus, Away) else DeadlineExceeded, match=said):
        await ask_as_a_command()


async def test_a_broker_that_takes_no_prompt_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is cancelled there.
    monkeypatch.setattr(prompts, "_CANCEL_S", float("inf"))
    monkeypatch.setattr(prompts, "_SILENT_S", 0.01)
    with pytest.raises(Unavailable, match="broker did not take the prompt in time: it does not answer"):
        await ask(Hanging())


async def test_who_gives_up_at_once_does_not_blame_the_broker() -> None:
    with pytest.raises(DeadlineExceeded, match=r"did not take the prompt within 0\.050 s"):
        await ask(Hanging())


async def test_that_is_told_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    async def within(limit: float, work: Awaitable[object]) -> None:
        limits.append(limit)
        asyncio.ensure_future(work).cancel()
        raise TimeoutError

    monkeypatch.setattr(prompts, "_within", within)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    with pytest.raises(Unavailable):
        await ask(Hanging(), timeout_s=5.0)
    assert limits == [104.5]
