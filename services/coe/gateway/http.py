"""The OpenAI-compatible HTTP API: POST /v1/chat/completions, GET /v1/models and /v1/models/NAME, GET /health."""

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from coe._proto.events_pb2 import PromptSubmitted
from coe.client.events import Completed, Text
from coe.client.prompts import PromptClient
from coe.gateway.admission import admit
from coe.gateway.head import Events, raise_error, until_routed, until_settled, while_connected
from coe.gateway.openai import (
    AUTO,
    BUDGETS,
    ChatRequest,
    chunk,
    completion,
    decision_headers,
    error_body,
    explanation,
    model_card,
    usage,
)
from coe.platform.errors import CoEError, ExpertNotFound, InternalError, InvalidPrompt, PromptTooLarge


class HttpApi:
    """`experts` lists the ids that are hosted now; `healthy` says whether prompts can be taken.

    `hold_s`: the head of a streamed answer waits so long for its first text: an error until then has its own status.
    """

    def __init__(
        self,
        prompts: PromptClient,
        *,
        experts: Callable[[], Awaitable[list[str]]],
        healthy: Callable[[], Awaitable[bool]],
        deadline_s: float,
        max_prompt_bytes: int,
        hold_s: float = 5.0,
    ) -> None:
        self._prompts = prompts
        self._experts = experts
        self._healthy = healthy
        self._deadline_s = deadline_s
        self._max_prompt_bytes = max_prompt_bytes
        self._hold_s = hold_s
        self._since = int(time.time())

    def app(self) -> Starlette:
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/health", self.health),
        ]
        handlers = {CoEError: refuse, HTTPException: unknown, Exception: internal}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def health(self, request: Request) -> Response:
        return Response(status_code=200 if await self._healthy() else 503)

    async def models(self, request: Request) -> Response:
        cards = [model_card(name, self._since) for name in await self._names()]
        return JSONResponse({"object": "list", "data": cards})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in await self._names():
            raise ExpertNotFound(f"no expert {name!r} is hosted here")
        return JSONResponse(model_card(name, self._since))

    async def _names(self) -> list[str]:
        return [AUTO, *BUDGETS, *await self._experts()]

    async def chat(self, request: Request) -> Response:
        wanted = await parse(request, self._max_prompt_bytes)
        prompt = admit(
            wanted.to_prompt(),
            now_ms=time.time_ns() // 1_000_000,
            timeout_s=self._deadline_s,
            max_prompt_bytes=self._max_prompt_bytes,
        )
        prompt.request_id = uuid4().hex
        return await while_connected(request, self._answer(wanted, prompt))

    async def _answer(self, wanted: ChatRequest, prompt: PromptSubmitted) -> Response:
        events = self._prompts.submit(prompt, timeout_s=self._deadline_s)
        try:
            routed = await until_routed(events)
            headers = decision_headers(routed.routing, routed.assignment) | {"x-request-id": prompt.request_id}
            why = {"coe": explanation(routed.routing, routed.assignment)} if wanted.explain else {}
            if wanted.stream:
                events = await until_settled(events, self._hold_s)
                with_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
                body = stream(events, prompt.request_id, routed.assignment.expert_id, why, with_usage)
                return StreamingResponse(body, headers=headers, media_type="text/event-stream")
            result = [event async for event in events][-1]
            assert isinstance(result, Completed)
            raise_error(result)
            return JSONResponse(completion(result.result, int(time.time())) | why, headers=headers)
        except BaseException:
            await events.aclose()
            raise


async def parse(request: Request, max_prompt_bytes: int) -> ChatRequest:
    """The request's body, read only up to a bound. Raises PromptTooLarge or InvalidPrompt with the field's name."""
    body = b""
    async for part in request.stream():
        body += part
        # JSON may need up to six bytes for one of text; the text itself is measured at admission.
        if len(body) > 6 * max_prompt_bytes:
            raise PromptTooLarge("the request body is too large", limit=6 * max_prompt_bytes)
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not (field := ".".join(str(part) for part in first["loc"])):
            raise InvalidPrompt(first["msg"]) from None
        what = "not supported" if first["type"] == "extra_forbidden" else first["msg"]
        raise InvalidPrompt(f"{field}: {what}", param=field) from None


async def stream(
    events: Events, request_id: str, model: str, why: dict[str, Any], with_usage: bool
) -> AsyncGenerator[str, None]:
    """Server-sent events, the first with `why`. A restarted prompt can't take text back: what was not sent follows."""
    created, sent, text, attempt = int(time.time()), "", "", 0
    yield sse(chunk(request_id, created, model, {"role": "assistant", "content": ""}, None) | why)
    async with aclosing(events):
        try:
            async for event in events:
                if isinstance(event, Text):
                    text = event.text if event.attempt > attempt else text + event.text
                    attempt = event.attempt
                    if text.startswith(sent) and len(text) > len(sent):
                        yield sse(chunk(request_id, created, model, {"content": text[len(sent) :]}, None))
                        sent = text
                elif isinstance(event, Completed):
                    raise_error(event)
                    finish = event.result.completion.finish_reason
                    yield sse(chunk(request_id, created, model, {}, finish))
                    if with_usage:
                        last = chunk(request_id, created, model, {}, None) | {"choices": []}
                        yield sse(last | {"usage": usage(event.result.usage)})
        except CoEError as error:
            yield sse(error_body(error))
            return
    yield "data: [DONE]\n\n"


def sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, CoEError)
    headers = {"retry-after": "1"} if error.retryable else {}
    return JSONResponse(error_body(error, error.details.get("param")), error.http_status, headers)


def unknown(request: Request, error: Exception) -> Response:
    """A path or method that is not served."""
    assert isinstance(error, HTTPException)
    refused = InvalidPrompt(f"{request.method} {request.url.path}: {error.detail}")
    return JSONResponse(error_body(refused), error.status_code, error.headers)


def internal(request: Request, error: Exception) -> Response:
    return refuse(request, InternalError("internal error"))
