"""Calls that are cut off when the gateway ends: by uvicorn and gRPC, neither of which waits for what that leads to."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from coe._proto import events_pb2
from coe.client.prompts import PromptClient
from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.local.ports import free_port
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from support.deadlines import until_true
from support.gateway import CHAT, chat, http_api
from support.pipeline import Pipeline, pipeline


class Slow(MemoryBus):
    """Its broker is asked first who takes a cancellation, as it is before the first one."""

    async def post(self, outgoing: Outgoing) -> None:
        await asyncio.sleep(0.05)
        await super().post(outgoing)


@pytest.fixture
async def path() -> AsyncIterator[Pipeline]:
    async with pipeline(MemoryBroker()) as path:
        yield path


async def test_their_prompts_are_cancelled_before_the_bus_is_stopped(path: Pipeline) -> None:
    async with PromptClient(Slow(path.bus.broker)) as client:
        asked = events_pb2.PromptSubmitted(prompt="hi", expert_id="silent")
        call = asyncio.ensure_future(anext(client.submit(asked, timeout_s=60)))
        await until_true(lambda: any(path.bus.broker.partitions(topics.PROMPTS)))
        call.cancel()
    assert any(path.bus.broker.partitions(topics.CANCELLATIONS))
    await asyncio.gather(call, return_exceptions=True)


async def test_an_answer_over_http_that_has_not_begun_is_an_error_like_others(
    path: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    settings = GatewaySettings(http_port=free_port())
    async with PromptClient(MemoryBus(path.bus.broker)) as client, httpx.AsyncClient() as http:
        server = HttpServer(http_api(client, settings), settings, grace_s=0)
        serving = asyncio.ensure_future(server.run_until_cancelled())
        await until_true(lambda: server.started)
        url = f"http://127.0.0.1:{settings.http_port}{CHAT}"
        asking = asyncio.ensure_future(http.post(url, json=chat("hi", model="slow"), timeout=30))
        await until_true(lambda: any(path.bus.broker.partitions(topics.ASSIGNMENTS)))
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["x-should-retry"] == "true"
    assert answer.headers["x-request-id"]
    assert not [record for record in caplog.records if record.exc_info]
