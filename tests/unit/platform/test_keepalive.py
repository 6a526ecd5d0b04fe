"""Our channels and servers agree on how often a quiet connection may be asked whether it lives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from coe._proto import mapper_pb2, mapper_pb2_grpc
from coe.platform.rpc import options

# Both sides' times are divided by this, so that there is a ping a second, the most that gRPC sends.
FASTER = 100
# A server bears with three pings too many.
QUIET_S = 8.0


class Mapper(mapper_pb2_grpc.MapperServicer):
    """Answers a category `now`, any other never."""

    async def Resolve(self, request: mapper_pb2.ResolveRequest, context: Any) -> mapper_pb2.ResolveResponse:
        if request.category != "now":
            await asyncio.Event().wait()
        return mapper_pb2.ResolveResponse()


def faster(given: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(name, value // FASTER if name.endswith("_ms") else value) for name, value in given]


@asynccontextmanager
async def connection() -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of its own."""
    server = grpc.aio.server(options=faster(options.SERVER))
    mapper_pb2_grpc.add_MapperServicer_to_server(Mapper(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=faster(options.CHANNEL)) as channel:
        yield channel
    await server.stop(None)


async def ask(channel: grpc.aio.Channel, category: str) -> grpc.StatusCode:
    try:
        request = mapper_pb2.ResolveRequest(category=category)
        await mapper_pb2_grpc.MapperStub(channel).Resolve(request, timeout=QUIET_S)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_long_silence_ends_no_call_and_no_connection() -> None:
    async with connection() as within, connection() as between:
        assert await ask(between, "now") is grpc.StatusCode.OK
        ended, _ = await asyncio.gather(ask(within, "never"), still_ready(between))
        assert ended is grpc.StatusCode.DEADLINE_EXCEEDED
        for channel in (within, between):
            assert await ask(channel, "now") is grpc.StatusCode.OK


async def still_ready(channel: grpc.aio.Channel) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
