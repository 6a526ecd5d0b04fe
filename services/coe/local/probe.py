"""Checks the gRPC health of a service: `python -m coe.local.probe [HOST:PORT]` exits with 0 if it is serving."""

import asyncio
import sys

import grpc.aio
from grpc_health.v1 import health_pb2

from coe.platform.errors import CoEError
from coe.platform.rpc.client import bare_channel, tls_trouble
from coe.platform.settings import GrpcSettings

TIMEOUT_S = 2.0


async def serves(address: str) -> bool:
    """Whether the server at host:port reports SERVING within two seconds."""
    async with bare_channel(address) as channel:
        try:
            return await says_serving(channel, TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False


async def says_serving(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """Whether the server reports SERVING. Raises grpc.aio.AioRpcError if it does not answer."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    reply = await check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def main(address: str) -> int:
    """Returns the exit status. On failure, reports it on stderr, with the TLS error if that is the cause."""
    try:
        if await serves(address):
            return 0
        why = await tls_trouble(address)
    except CoEError as error:
        why = error.message
    sys.stderr.write(f"{address} does not serve{f': {why}' if why else ''}\n")
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else f"127.0.0.1:{GrpcSettings().port}")))
