"""Transports: Kafka topics, the gateway's gRPC stream, and its OpenAI-compatible HTTP API.

Encryption uses the services' settings: COE_KAFKA_SECURITY, COE_GRPC_TLS, COE_GATEWAY_HTTP_TLS, and COE_TLS_* for
certificates.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.cli.chat import Metadata, authorization
from coe.cli.servers import host_port
from coe.client.events import Completed, Event, Text
from coe.client.prompts import PromptClient
from coe.local.probe import says_serving
from coe.local.stackfile import StackInfo
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import InvalidPrompt, Unauthenticated, Unavailable
from coe.platform.rpc.client import bare_channel
from coe.platform.rpc.status import from_call
from loadtest import overhttp
from loadtest.runner import Transport

_MOST_STREAMS = 200_000
_START_TIMEOUT_S = 30.0


class GrpcTransport:
    """One channel, with one stream per prompt."""

    def __init__(self, stub: "gateway_pb2_grpc.GatewayAsyncStub", metadata: Metadata = ()) -> None:
        self._stub = stub
        self._metadata = metadata

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        result = events_pb2.PromptCompleted(request_id=prompt.request_id)
        request = gateway_pb2.GenerateRequest(prompt=prompt)
        done = False
        try:
            async for response in self._stub.Generate(request, timeout=timeout_s, metadata=self._metadata):
                kind = response.WhichOneof("event")
                if kind == "token":
                    yield Text(response.token.text, response.token.attempt)
                elif kind == "routed":
                    result.routing.CopyFrom(response.routed.routing)
                    result.assignment.CopyFrom(response.routed.assignment)
                elif kind == "usage":
                    result.usage.CopyFrom(response.usage)
                elif kind == "done":
                    done = True
                    result.completion.text = response.done.text
                    result.timings.CopyFrom(response.done.timings)
                    result.tiers.CopyFrom(response.done.tiers)
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None
        if done:
            yield Completed(result)


@asynccontextmanager
async def open_transport(name: str, stack: StackInfo, api_key: str = "") -> AsyncIterator[Transport]:
    """`name`: kafka, grpc or http. `api_key`: for a gateway that requires one.

    Raises Unavailable if no server answers or its certificate is not trusted, Unauthenticated for an unknown key, and
    InvalidPrompt if the stack does not have this transport.
    """
    async with AsyncExitStack() as exit_stack:
        if name == "kafka":
            yield await exit_stack.enter_async_context(_kafka(_address(stack.kafka_bootstrap, "COE_KAFKA_BOOTSTRAP")))
        elif name == "grpc":
            address, metadata = _address(stack.gateway, "COE_GATEWAY"), authorization(api_key)
            channel = await exit_stack.enter_async_context(bare_channel(address))
            stub = gateway_pb2_grpc.GatewayStub(channel)
            await _greet(channel, stub, metadata, address)
            yield GrpcTransport(stub, metadata)
        elif name == "http":
            address = _address(stack.gateway_http, "COE_GATEWAY_HTTP")
            way = overhttp.connected(address, dict(authorization(api_key)), _START_TIMEOUT_S)
            yield await exit_stack.enter_async_context(way)
        else:
            raise InvalidPrompt(f"unknown transport {name!r}: use kafka, grpc or http")


def _address(named: str, variable: str) -> str:
    if not named:
        raise InvalidPrompt(f"no address to send the load to: set {variable}")
    if "/" in named:
        # Reject URLs, which also end with a port.
        raise InvalidPrompt(f"{variable} {named}: expected HOST:PORT")
    return host_port(variable, named)


@asynccontextmanager
async def _kafka(bootstrap: str) -> AsyncIterator[Transport]:
    bus = KafkaBus(bootstrap, source="coe/loadtest", start_timeout_s=_START_TIMEOUT_S)
    await bus.start()
    try:

        async def post(prompt: events_pb2.PromptSubmitted) -> None:
            # No need to wait for the broker's acknowledgement: a lost prompt shows as one without a terminal event.
            await bus.publisher.post(Outgoing(topics.PROMPTS, prompt.request_id, prompt))

        async with PromptClient(bus, max_streams=_MOST_STREAMS, publish=post) as client:
            yield client
    finally:
        await bus.stop()


async def _greet(
    channel: grpc.aio.Channel, stub: "gateway_pb2_grpc.GatewayAsyncStub", metadata: Metadata, address: str
) -> None:
    """Checks the gateway first, so a wrong address, certificate or key is one error instead of one per prompt."""
    try:
        await says_serving(channel, _START_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise Unavailable(f"no gateway answers at {address}: {error.details()}") from None
    try:
        # An empty request is refused, but the key is checked first.
        await stub.Generate(gateway_pb2.GenerateRequest(), timeout=_START_TIMEOUT_S, metadata=metadata).read()
    except grpc.aio.AioRpcError as error:
        if isinstance(refused := from_call(error), Unauthenticated):
            raise refused from None
