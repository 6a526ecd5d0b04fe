"""Certificates that are renewed under servers and clients: connections that begin afterwards are by the new ones."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import grpc.aio
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError
from starlette.applications import Starlette

from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.local.ports import free_port
from coe.local.probe import says_serving
from coe.platform.bus.kafka.connection import Connection
from coe.platform.residency.connection import connect, disconnect
from coe.platform.rpc.client import channel
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from support import certificates
from support.certificates import Certificates
from support.deadlines import until


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_settings_from_outside: None) -> Certificates:
    made = certificates.make(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COE_GRPC_TLS", "server")
    monkeypatch.setenv("COE_KAFKA_SECURITY", "SSL")
    return made


def certificate(made: Certificates) -> bytes:
    return ssl.PEM_cert_to_DER_cert((made.folder / "test.pem").read_text())


@asynccontextmanager
async def over_grpc() -> AsyncIterator[int]:
    endpoint = Endpoint(GrpcSettings(grace_s=0))
    await endpoint.start([])
    yield int(endpoint.address.rpartition(":")[2])
    await endpoint.stop()


@asynccontextmanager
async def over_http() -> AsyncIterator[int]:
    port = free_port()
    settings = GatewaySettings(http_tls="server", http_port=port)
    server = HttpServer(Starlette(), settings, grace_s=0)
    serving = asyncio.create_task(server.run_until_cancelled())

    async def started() -> bool:
        return server.started

    await until(started)
    yield port
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def shown_by(port: int) -> bytes:
    address = ("127.0.0.1", port)
    return ssl.PEM_cert_to_DER_cert(await asyncio.to_thread(ssl.get_server_certificate, address, timeout=20))


@pytest.mark.parametrize("server", [over_grpc, over_http])
async def test_a_server(made: Certificates, server: Callable[[], AbstractAsyncContextManager[int]]) -> None:
    async with server() as port:
        first = await shown_by(port)
        assert first == certificate(made)
        key = (made.folder / "test.key").read_bytes()
        (made.folder / "test.key").write_text("half of it")
        assert await shown_by(port) == first, "what can't be used is not taken"
        (made.folder / "test.key").write_bytes(key)
        made.sign("test")
        assert await shown_by(port) == certificate(made) != first


@asynccontextmanager
async def recording(made: Certificates, seen: list[bytes]) -> AsyncIterator[int]:
    """A server that asks for a certificate, keeps what it is shown, and hangs up."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made.folder / "ca.pem")
    context.load_cert_chain(made.folder / "kafka.bundle.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        seen.append(shown)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


Connect = Callable[[], Awaitable[object]]


@asynccontextmanager
async def to_kafka(port: int) -> AsyncIterator[Connect]:
    client = AIOKafkaClient(**Connection(f"localhost:{port}", "test").options())
    yield client.bootstrap
    await client.close()


@asynccontextmanager
async def to_redis(port: int) -> AsyncIterator[Connect]:
    client = connect(f"rediss://localhost:{port}/0")
    yield client.ping
    await disconnect(client)


@asynccontextmanager
async def to_grpc(port: int) -> AsyncIterator[Connect]:
    async with channel(f"localhost:{port}") as opened:
        yield lambda: says_serving(opened, 5.0)


@pytest.mark.parametrize("client", [to_kafka, to_redis, to_grpc])
async def test_a_client(made: Certificates, client: Callable[[int], AbstractAsyncContextManager[Connect]]) -> None:
    seen: list[bytes] = []
    async with recording(made, seen) as port, client(port) as connects:

        async def shown() -> bool:
            with suppress(KafkaError, RedisError, OSError, grpc.aio.AioRpcError):
                await connects()
            return certificate(made) in seen

        await until(shown)
        made.sign("test")
        await until(shown)
