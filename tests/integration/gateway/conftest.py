"""A gateway's prompt client over the pipeline's bus, and its two faces."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from coe._proto import gateway_pb2_grpc
from coe.client.ended import Ended
from coe.client.prompts import PromptClient
from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.local.ports import free_port
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from support.deadlines import until
from support.gateway import CHAT, client_of, grpc_api, http_api
from support.pipeline import Pipeline, pipeline


@pytest.fixture
async def path() -> AsyncIterator[Pipeline]:
    async with pipeline(MemoryBroker()) as path:
        yield path


@pytest.fixture
async def prompts(path: Pipeline) -> AsyncIterator[PromptClient]:
    bus = MemoryBus(path.bus.broker, source="test/gateway")
    await bus.start()
    async with PromptClient(bus, max_streams=2, ended=Ended(600, 2**20)) as client:
        yield client
    await bus.stop()


@pytest.fixture
async def stub(prompts: PromptClient) -> AsyncIterator[gateway_pb2_grpc.GatewayStub]:
    async with grpc_api(prompts) as stub:
        yield stub


@pytest.fixture
async def http(prompts: PromptClient) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(http_api(prompts, GatewaySettings(default_deadline_s=20, hold_s=2))) as client:
        yield client


@pytest.fixture
async def served(prompts: PromptClient) -> AsyncIterator[str]:
    """The URL of the API on a real HTTP server: one that notices when a client goes away."""
    port = free_port()
    settings = GatewaySettings(default_deadline_s=60, hold_s=0.2, http_port=port)
    serving = asyncio.ensure_future(HttpServer(http_api(prompts, settings), settings).run_until_cancelled())
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{url}/health")).status_code == 200
            except httpx.ConnectError:
                return False

    await until(answers)
    yield f"{url}{CHAT}"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
