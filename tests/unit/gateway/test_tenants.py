"""A tenant's prompts at once are bounded; its place is free again however a prompt ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from coe._proto import events_pb2
from coe.client.events import Event, Text
from coe.gateway.tenants import TenantPrompts
from coe.platform.errors import CapacityExceeded, DeadlineExceeded


class Answers:
    """Each a word, and then what is asked for: an end, an error, or nothing any more."""

    def __init__(self) -> None:
        self.open = 0

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        self.open += 1
        try:
            yield Text("a", 0)
            if prompt.prompt == "late":
                raise DeadlineExceeded("no answer")
            if prompt.prompt == "silent":
                await asyncio.Event().wait()
        finally:
            self.open -= 1


def prompt(tenant: str, text: str = "") -> events_pb2.PromptSubmitted:
    return events_pb2.PromptSubmitted(tenant=tenant, prompt=text)


async def test_one_tenant_has_so_many_and_others_are_not_held_up() -> None:
    prompts = TenantPrompts(Answers(), 2)
    async with (
        aclosing(prompts.submit(prompt("acme"), timeout_s=1)) as one,
        aclosing(prompts.submit(prompt("acme"), timeout_s=1)) as two,
    ):
        await anext(one), await anext(two)
        with pytest.raises(CapacityExceeded, match="2 prompts of 'acme'"):
            await anext(prompts.submit(prompt("acme"), timeout_s=1))
        assert [event async for event in prompts.submit(prompt("labs"), timeout_s=1)] == [Text("a", 0)]
    assert [event async for event in prompts.submit(prompt("acme"), timeout_s=1)] == [Text("a", 0)]


@pytest.mark.parametrize("how", ["", "late", "silent"])
async def test_a_place_is_free_again_however_a_prompt_ends(how: str) -> None:
    answers = Answers()
    prompts = TenantPrompts(answers, 1)
    for _ in range(3):
        events = prompts.submit(prompt("acme", how), timeout_s=1)
        assert await anext(events) == Text("a", 0)
        if how == "silent":
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
        elif how == "late":
            with pytest.raises(DeadlineExceeded):
                await anext(events)
        else:
            await events.aclose()
        assert answers.open == 0


async def test_who_has_no_tenant_is_not_counted() -> None:
    prompts = TenantPrompts(Answers(), 1)
    async with (
        aclosing(prompts.submit(prompt(""), timeout_s=1)) as one,
        aclosing(prompts.submit(prompt(""), timeout_s=1)) as two,
    ):
        assert await anext(one) == await anext(two) == Text("a", 0)
