"""The gateway's two faces in this process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc.aio
import httpx
from starlette.applications import Starlette

from coe._proto import gateway_pb2_grpc
from coe.client.prompts import PromptClient
from coe.gateway.generate import GatewayServicer
from coe.gateway.http import HttpApi
from coe.gateway.keys import ApiKeys
from coe.gateway.settings import GatewaySettings
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from support.pipeline import EXPERT

LIMIT = 1000
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"


def http_api(
    prompts: PromptClient, settings: GatewaySettings, keys: ApiKeys | None = None, hosted: Sequence[str] = (EXPERT,)
) -> Starlette:
    async def experts() -> list[str]:
        return list(hosted)

    async def healthy() -> bool:
        return True

    api = HttpApi(
        prompts,
        keys=keys or ApiKeys(None),
        experts=experts,
        healthy=healthy,
        settings=settings,
        max_prompt_bytes=LIMIT,
    )
    return api.app()


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


def chat(prompt: str, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}], **fields}


@asynccontextmanager
async def grpc_api(prompts: PromptClient, keys: ApiKeys | None = None) -> AsyncIterator[gateway_pb2_grpc.GatewayStub]:
    endpoint = Endpoint(GrpcSettings(grace_s=1))
    settings = GatewaySettings(default_deadline_s=20)
    servicer = GatewayServicer(prompts, keys=keys or ApiKeys(None), settings=settings, max_prompt_bytes=LIMIT)
    gateway_pb2_grpc.add_GatewayServicer_to_server(servicer, endpoint.server)
    await endpoint.start(["coe.v1.Gateway"])
    async with grpc.aio.insecure_channel(endpoint.address) as channel:
        yield gateway_pb2_grpc.GatewayStub(channel)
    await endpoint.stop()
