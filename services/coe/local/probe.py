"""Asks a service for its gRPC health: `python -m coe.local.probe [HOST:PORT]`, exit status 0 when it serves."""

import asyncio
import sys

import grpc.aio
from grpc_health.v1 import health_pb2

from coe.platform.errors import CoEError
from coe.platform.rpc.client import bare_channel, tls_trouble
from coe.platform.settings import GrpcSettings

TIMEOUT_S = 2.0


async def serves(address: str) -> bool:
    """Whether the server at host:port says SERVING within two seconds."""
    async with bare_channel(address) as channel:
        try:
            return await says_serving(channel, TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False


async def says_serving(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """Raises grpc.aio.AioRpcError when the server does not answer."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    reply = await check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def main(address: str) -> int:
    """The exit status. Says on stderr what hinders the encryption, if that is it."""
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
