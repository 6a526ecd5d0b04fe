"""Ways into the system: Kafka topics, the gateway's gRPC stream, its OpenAI-compatible HTTP API.

Encrypted as the services are: COE_KAFKA_SECURITY, COE_GRPC_TLS and COE_GATEWAY_HTTP_TLS, certificates of COE_TLS_*.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import httpx

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.client.events import Completed, Event, Text
from coe.client.prompts import PromptClient
from coe.gateway.settings import GatewaySettings
from coe.local.probe import says_serving
from coe.local.stackfile import StackInfo
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import CoEError, InternalError, InvalidPrompt, Unavailable, from_code
from coe.platform.rpc.client import bare_channel
from coe.platform.rpc.status import from_call
from coe.platform.tls import TlsSettings
from loadtest.runner import Transport

_MOST_STREAMS = 200_000
_MOST_CONNECTIONS = 256
_START_TIMEOUT_S = 30.0


class GrpcTransport:
    """One channel, one stream a prompt."""

    def __init__(self, stub: "gateway_pb2_grpc.GatewayAsyncStub") -> None:
        self._stub = stub

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        result = events_pb2.PromptCompleted(request_id=prompt.request_id)
        try:
            async for response in self._stub.Generate(gateway_pb2.GenerateRequest(prompt=prompt), timeout=timeout_s):
                kind = response.WhichOneof("event")
                if kind == "token":
                    yield Text(response.token.text, response.token.attempt)
                elif kind == "routed":
                    result.routing.CopyFrom(response.routed.routing)
                    result.assignment.CopyFrom(response.routed.assignment)
                elif kind == "usage":
                    result.usage.CopyFrom(response.usage)
                elif kind == "done":
                    result.completion.text = response.done.text
                    result.timings.CopyFrom(response.done.timings)
                    result.tiers.CopyFrom(response.done.tiers)
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None
        yield Completed(result)


class HttpTransport:
    """A streamed chat completion a prompt."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        result = events_pb2.PromptCompleted(request_id=prompt.request_id)
        body = {
            "model": prompt.expert_id or "coe-auto",
            "messages": [{"role": "user", "content": prompt.prompt}],
            "max_tokens": prompt.sampling.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with self._client.stream("POST", "/v1/chat/completions", json=body, timeout=timeout_s) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise _refusal(answer.status_code, (await answer.aread()).decode())
                result.assignment.expert_id = answer.headers.get("x-coe-expert", "")
                result.routing.category = answer.headers.get("x-coe-category", "")
                async for text in _deltas(answer.aiter_lines(), result):
                    yield Text(text, 0)
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        result.completion.finish_reason = "stop"
        yield Completed(result)


def _refusal(status: int, body: str) -> CoEError:
    try:
        error = json.loads(body)["error"]
        return from_code(error["code"], error["message"])
    except (ValueError, KeyError, TypeError):
        return InternalError(f"HTTP {status}: {body[:200]}")


async def _deltas(lines: AsyncIterator[str], result: events_pb2.PromptCompleted) -> AsyncGenerator[str, None]:
    """The texts of a server-sent event stream; the usage at its end goes into the result. Raises CoEError."""
    async for line in lines:
        data = line.removeprefix("data: ")
        if not line or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if error := chunk.get("error"):
            raise from_code(error["code"], error["message"])
        if usage := chunk.get("usage"):
            result.usage.completion_tokens = usage["completion_tokens"]
        for choice in chunk.get("choices", ()):
            if text := choice["delta"].get("content"):
                yield text


@asynccontextmanager
async def open_transport(name: str, stack: StackInfo) -> AsyncIterator[Transport]:
    """`name`: kafka, grpc or http. Raises Unavailable when nobody answers there, or a certificate is not trusted."""
    if name == "kafka":
        bus = KafkaBus(stack.kafka_bootstrap, source="coe/loadtest", start_timeout_s=_START_TIMEOUT_S)
        await bus.start()
        try:

            async def post(prompt: events_pb2.PromptSubmitted) -> None:
                # Without waiting for the broker's word: what is lost on the way has no terminal event, and shows.
                await bus.publisher.post(Outgoing(topics.PROMPTS, prompt.request_id, prompt))

            async with PromptClient(bus, max_streams=_MOST_STREAMS, publish=post) as client:
                yield client
        finally:
            await bus.stop()
    elif name == "grpc":
        async with bare_channel(stack.gateway) as channel:
            await _greet_grpc(channel, stack.gateway)
            yield GrpcTransport(gateway_pb2_grpc.GatewayStub(channel))
    elif name == "http":
        async with _http_client(stack.gateway_http) as http:
            await _greet_http(http)
            yield HttpTransport(http)
    else:
        raise InvalidPrompt(f"no way {name!r} into the system: kafka, grpc or http")


async def _greet_grpc(channel: grpc.aio.Channel, address: str) -> None:
    """One call before the load, so that an address or a certificate that is wrong is one error and not one a prompt."""
    try:
        await says_serving(channel, _START_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise Unavailable(f"no gateway answers at {address}: {error.details()}") from None


def _http_client(address: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=_MOST_CONNECTIONS)
    if GatewaySettings().http_tls == "off":
        return httpx.AsyncClient(base_url=f"http://{address}", limits=limits)
    return httpx.AsyncClient(base_url=f"https://{address}", limits=limits, verify=TlsSettings().client_context())


async def _greet_http(http: httpx.AsyncClient) -> None:
    try:
        await http.get("/health", timeout=_START_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise Unavailable(f"no gateway answers at {http.base_url}: {error or type(error).__name__}") from None
