"""Transport over the gateway's OpenAI-compatible HTTP API: one streamed chat completion per prompt."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle

import httpx

from coe._proto import events_pb2
from coe.client.events import Completed, Event, Text
from coe.gateway.settings import GatewaySettings
from coe.platform.errors import CapacityExceeded, CoEError, DeadlineExceeded, InternalError, Unavailable, from_code
from coe.platform.open_files import allow_open_files
from coe.platform.tls import TlsSettings

# No limit: a prompt never waits for another's connection. Several pools: each request scans a pool's connections.
_POOLS = 32
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32)
# A proxy in front of the gateway returns only a status.
_BY_STATUS = {429: CapacityExceeded, 502: Unavailable, 503: Unavailable, 504: DeadlineExceeded}


class HttpTransport:
    """One connection per prompt in progress, from several pools in rotation."""

    def __init__(self, pools: Sequence[httpx.AsyncClient]) -> None:
        self._pools = cycle(pools)

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        result = events_pb2.PromptCompleted(request_id=prompt.request_id)
        body = {
            "model": prompt.expert_id or "coe-auto",
            "messages": [{"role": "user", "content": prompt.prompt}],
            "max_tokens": prompt.sampling.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"x-coe-timeout-s": str(timeout_s)}
        request = next(self._pools).stream("POST", "/v1/chat/completions", json=body, headers=headers)
        try:
            async with asyncio.timeout(timeout_s), request as answer:
                if answer.status_code != httpx.codes.OK:
                    await answer.aread()
                    raise _refusal(answer.status_code, answer.text)
                result.assignment.expert_id = answer.headers.get("x-coe-expert", "")
                result.routing.category = answer.headers.get("x-coe-category", "")
                async for text in _deltas(answer.aiter_lines(), result):
                    yield Text(text, 0)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {timeout_s:.1f} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        yield Completed(result)


def _refusal(status: int, body: str) -> CoEError:
    try:
        error = json.loads(body)["error"]
        return from_code(error["code"], error["message"])
    except (ValueError, KeyError, TypeError):
        return _BY_STATUS.get(status, InternalError)(f"HTTP {status}: {body[:200]}")


async def _deltas(lines: AsyncIterator[str], result: events_pb2.PromptCompleted) -> AsyncGenerator[str, None]:
    """The texts of a server-sent event stream; finish reason and usage go into `result`. Raises CoEError."""
    done = False
    async for line in lines:
        # Skip keep-alive comments.
        field, _, data = line.partition(":")
        if field != "data":
            continue
        if data.strip() == "[DONE]":
            done = True
            continue
        try:
            chunk = json.loads(data)
            if error := chunk.get("error"):
                raise from_code(error["code"], error["message"])
            if usage := chunk.get("usage"):
                result.usage.completion_tokens = usage["completion_tokens"]
            choices = [(choice["delta"].get("content"), choice["finish_reason"]) for choice in chunk["choices"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InternalError(f"not a chat completion chunk: {line[:200]}") from None
        for text, reason in choices:
            if text:
                yield text
            if reason:
                result.completion.finish_reason = reason
    if not done:
        raise Unavailable("the answer was cut off")


@asynccontextmanager
async def connected(address: str, headers: Mapping[str, str], start_timeout_s: float) -> AsyncIterator[HttpTransport]:
    """Raises Unavailable if no gateway answers or its certificate is not trusted, Unauthenticated for a wrong key."""
    allow_open_files()
    encrypted = GatewaySettings().http_tls != "off"
    url = f"{'https' if encrypted else 'http'}://{address}"
    verify = TlsSettings().client_context() if encrypted else False
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, headers=headers, limits=_LIMITS, verify=verify, timeout=None)
            )
            for _ in range(_POOLS)
        ]
        await _greet(pools[0], start_timeout_s)
        yield HttpTransport(pools)


async def _greet(http: httpx.AsyncClient, timeout_s: float) -> None:
    """Checks the gateway first, so a wrong address, certificate or key is one error instead of one per prompt."""
    try:
        answer = await http.get("/v1/models", timeout=timeout_s)
    except httpx.HTTPError as error:
        raise Unavailable(f"no gateway answers at {http.base_url}: {error or type(error).__name__}") from None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise _refusal(answer.status_code, answer.text)
