"""Of one request's prompts as many are followed at a time as their tenant may have."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from coe._proto.events_pb2 import PromptCompleted, PromptSubmitted
from coe.client.events import Completed, Event
from coe.gateway.several import ends
from coe.gateway.tenants import TenantPrompts
from coe.platform.errors import CapacityExceeded

ASKED = [PromptSubmitted(request_id=f"r.{index}", tenant="acme") for index in range(5)]


class Answers:
    """Each ends when another task had its turn."""

    async def submit(self, prompt: PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(0)
        yield Completed(PromptCompleted(request_id=prompt.request_id))


async def test_more_than_a_tenant_may_have_wait_for_each_other() -> None:
    found = await ends(TenantPrompts(Answers(), 2), ASKED, 10, at_once=2)
    assert [result.request_id for result in found] == [prompt.request_id for prompt in ASKED]
    with pytest.raises(CapacityExceeded):
        await ends(TenantPrompts(Answers(), 2), ASKED, 10, at_once=3)
