"""Ways into the system: Kafka topics, the gateway's gRPC stream, its OpenAI-compatible HTTP API."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import httpx

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.client.events import Completed, Event, Text
from coe.client.prompts import PromptClient
from coe.local.stackfile import StackInfo
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import InvalidPrompt, Unavailable
from loadtest.runner import Transport

_MOST_STREAMS = 200_000
_MOST_CONNECTIONS = 256


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
            raise Unavailable(f"{error.code().name}: {error.details()}") from error
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
                    raise Unavailable(f"HTTP {answer.status_code}: {(await answer.aread()).decode()[:200]}")
                result.assignment.expert_id = answer.headers.get("x-coe-expert", "")
                result.routing.category = answer.headers.get("x-coe-category", "")
                async for text in _deltas(answer.aiter_lines(), result):
                    yield Text(text, 0)
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        result.completion.finish_reason = "stop"
        yield Completed(result)


async def _deltas(lines: AsyncIterator[str], result: events_pb2.PromptCompleted) -> AsyncGenerator[str, None]:
    """The texts of a server-sent event stream; the usage at its end goes into the result."""
    async for line in lines:
        data = line.removeprefix("data: ")
        if not line or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if usage := chunk.get("usage"):
            result.usage.completion_tokens = usage["completion_tokens"]
        for choice in chunk.get("choices", ()):
            if text := choice["delta"].get("content"):
                yield text


@asynccontextmanager
async def open_transport(name: str, stack: StackInfo) -> AsyncIterator[Transport]:
    """`name`: kafka, grpc or http."""
    if name == "kafka":
        bus = KafkaBus(stack.kafka_bootstrap, source="coe/loadtest")
        await bus.start()
        try:
            async with PromptClient(bus, max_streams=_MOST_STREAMS) as client:
                yield client
        finally:
            await bus.stop()
    elif name == "grpc":
        async with grpc.aio.insecure_channel(stack.gateway) as channel:
            yield GrpcTransport(gateway_pb2_grpc.GatewayStub(channel))
    elif name == "http":
        limits = httpx.Limits(max_connections=_MOST_CONNECTIONS)
        async with httpx.AsyncClient(base_url=f"http://{stack.gateway_http}", limits=limits) as http:
            yield HttpTransport(http)
    else:
        raise InvalidPrompt(f"no way {name!r} into the system: kafka, grpc or http")
