"""The OpenAI-compatible HTTP API: its routes and handlers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coe._proto.events_pb2 import PromptSubmitted
from coe.client.events import Completed
from coe.gateway.admission import admit
from coe.gateway.body import asked_s, parse
from coe.gateway.decision import decision_headers, explanation
from coe.gateway.dialects.asked import Asked, Head
from coe.gateway.dialects.chat import ChatRequest
from coe.gateway.dialects.completions import CompletionRequest
from coe.gateway.dialects.responses import ResponseRequest
from coe.gateway.edge import Edge
from coe.gateway.head import until_routed, until_settled, while_connected
from coe.gateway.keys import ApiKeys
from coe.gateway.models import ROUTED, model_card
from coe.gateway.reading import Reading
from coe.gateway.refusals import refuse, unserved
from coe.gateway.settings import GatewaySettings
from coe.gateway.several import answer_of, ends, submitted
from coe.gateway.sse import EventStream, stream
from coe.gateway.tenants import Prompts
from coe.platform.errors import CoEError, ExpertNotFound, Unavailable

DIALECTS: dict[str, type[Asked]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponseRequest,
}


class HttpApi:
    """The application and its handlers.

    `experts` lists the currently hosted expert ids, or none if they are unknown. `healthy` tells whether prompts can be
    accepted.
    """

    def __init__(
        self,
        prompts: Prompts,
        *,
        keys: ApiKeys,
        experts: Callable[[], Awaitable[list[str]]],
        healthy: Callable[[], Awaitable[bool]],
        settings: GatewaySettings,
        max_prompt_bytes: int,
    ) -> None:
        self._prompts = prompts
        self._keys = keys
        self._experts = experts
        self._healthy = healthy
        self._settings = settings
        self._max_prompt_bytes = max_prompt_bytes
        self._since = int(time.time())
        self._known: list[str] = []

    def app(self) -> Starlette:
        routes = [
            *(Route(path, partial(self.ask, form), methods=["POST"]) for path, form in DIALECTS.items()),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/health", self.health),
        ]
        handlers = {CoEError: refuse, HTTPException: unserved}
        middleware = [*_cors(self._settings.cors_origins), Middleware(Edge, routes=routes)]
        return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)

    async def health(self, request: Request) -> Response:
        return Response(status_code=200 if await self._healthy() else 503)

    async def models(self, request: Request) -> Response:
        self._tenant(request)
        cards = [model_card(name, self._since) for name in (*ROUTED, *await self._hosted())]
        return JSONResponse({"object": "list", "data": cards})

    async def model(self, request: Request) -> Response:
        self._tenant(request)
        name = request.path_params["name"]
        if name not in ROUTED and name not in (hosted := await self._hosted()):
            if not hosted:
                raise Unavailable(
                    "the hosted experts are currently unknown: Redis is unreachable, or no node has started yet"
                )
            raise ExpertNotFound(f"expert {name!r} is not hosted here")
        return JSONResponse(model_card(name, self._since))

    async def _hosted(self) -> list[str]:
        """The hosted experts; the last known ones while the current ones are unknown."""
        self._known = await self._experts() or self._known
        return self._known

    def _tenant(self, request: Request) -> str | None:
        return self._keys.tenant(request.headers.get("authorization"))

    async def ask(self, form: type[Asked], request: Request) -> Response:
        tenant = self._tenant(request)
        timeout_s = self._settings.deadline_s(asked_s(request))
        wanted = await parse(request, form, self._max_prompt_bytes)
        name, parts = request.state.request_id, wanted.apart()
        take = partial(
            admit,
            now_ms=time.time_ns() // 1_000_000,
            timeout_s=timeout_s,
            max_prompt_bytes=self._max_prompt_bytes,
            tenant=tenant,
        )
        if len(parts) > 1:
            prompts = submitted(parts, name, take)
            return await while_connected(request, self._answers(wanted, name, prompts, timeout_s))
        prompt = take(wanted.to_prompt(), request_id=name)
        return await while_connected(request, self._answer(wanted, prompt, timeout_s))

    async def _answer(self, wanted: Asked, prompt: PromptSubmitted, timeout_s: float) -> Response:
        answer = Reading(self._prompts.submit(prompt, timeout_s=timeout_s))
        try:
            routed = await until_routed(answer)
            headers = decision_headers(routed.routing, routed.assignment)
            why = {"coe": explanation(routed.routing, routed.assignment)} if wanted.explain else {}
            if wanted.stream:
                await until_settled(answer, self._settings.hold_s)
                head = Head(prompt.request_id, routed.assignment.expert_id, int(time.time()), why)
                return EventStream(stream(answer, wanted.telling(head)), answer, headers)
            while not isinstance(event := await answer.next(), Completed):
                pass
            head = Head(prompt.request_id, event.result.assignment.expert_id, int(time.time()), why)
            return JSONResponse(wanted.whole(event.result, head), headers=headers)
        except BaseException:
            await answer.aclose()
            raise

    async def _answers(
        self, wanted: Asked, name: str, prompts: Sequence[PromptSubmitted], timeout_s: float
    ) -> Response:
        # Above the tenant's limit the request would fail however often it was retried.
        at_once = self._settings.max_streams_per_tenant or len(prompts)
        results = await ends(self._prompts, prompts, timeout_s, at_once)
        # The response may cover a hundred thousand tokens; a thread keeps the event loop free for other answers.
        return await asyncio.to_thread(answer_of, wanted, name, results)


def _cors(origins: str) -> list[Middleware]:
    """CORS middleware, outermost: otherwise browsers would hide error responses from pages.

    "*" exposes every header because requests carry no credentials.
    """
    if not origins:
        return []
    allowed = [origin.strip() for origin in origins.split(",")]
    methods = ["GET", "POST"]
    return [
        Middleware(
            CORSMiddleware, allow_origins=allowed, allow_methods=methods, allow_headers=["*"], expose_headers=["*"]
        )
    ]
