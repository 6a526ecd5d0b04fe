"""Connections grow old, so that callers behind a balancer reach replicas that came later; calls outlive them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.platform.rpc.client import channel
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from support.deadlines import until

Response = gateway_pb2.GenerateResponse


class Gateway(gateway_pb2_grpc.GatewayServicer):
    """Says by which connection it was asked. A call for "more" then waits for `enough`."""

    def __init__(self) -> None:
        self.enough = asyncio.Event()

    async def Generate(self, request: gateway_pb2.GenerateRequest, context: Any) -> AsyncIterator[Response]:
        yield Response(accepted=Response.Accepted(request_id=context.peer()))
        if request.prompt.prompt == "more":
            await self.enough.wait()
            yield Response(accepted=Response.Accepted(request_id="the end"))


async def test_a_call_outlives_connections_that_grow_old() -> None:
    endpoint, gateway = Endpoint(GrpcSettings(port=0, grace_s=0, max_connection_age_s=0.2)), Gateway()
    gateway_pb2_grpc.add_GatewayServicer_to_server(gateway, endpoint.server)
    await endpoint.start(["coe.v1.Gateway"])
    async with channel(endpoint.address) as to:
        stub = gateway_pb2_grpc.GatewayStub(to)

        async def asked(prompt: str) -> AsyncIterator[str]:
            request = gateway_pb2.GenerateRequest(prompt=events_pb2.PromptSubmitted(prompt=prompt))
            async for response in stub.Generate(request, timeout=60):
                yield response.accepted.request_id

        long = asked("more")
        connections = {await anext(long)}

        async def another_one() -> bool:
            connections.update([said async for said in asked("")])
            return len(connections) > 3

        await until(another_one)
        gateway.enough.set()
        assert [said async for said in long] == ["the end"]
    await endpoint.stop()
