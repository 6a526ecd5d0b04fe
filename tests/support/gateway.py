"""The gateway's HTTP API in this process."""

import httpx
from starlette.applications import Starlette

from coe.client.prompts import PromptClient
from coe.gateway.http import HttpApi
from coe.gateway.keys import ApiKeys
from coe.gateway.settings import GatewaySettings
from support.pipeline import EXPERT

LIMIT = 1000
CHAT = "/v1/chat/completions"


def http_api(prompts: PromptClient, settings: GatewaySettings, keys: ApiKeys | None = None) -> Starlette:
    async def experts() -> list[str]:
        return [EXPERT]

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
