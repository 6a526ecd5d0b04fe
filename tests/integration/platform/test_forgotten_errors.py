"""Errors of aiokafka's futures that nobody waits for any more are not logged as never retrieved."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from opentelemetry.trace import INVALID_SPAN

from coe.platform.bus.api import TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.kafka.client import closing, stop_producer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.generations import Identity
from coe.platform.bus.kafka.producers import TransactionalProducer
from coe.platform.bus.messages import Message
from support.deadlines import until_true

pytestmark = pytest.mark.kafka


@contextmanager
def reports() -> Iterator[list[str]]:
    """What the event loop is told of."""
    loop, told = asyncio.get_running_loop(), list[str]()

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        told.append(f"{context['message']}: {context.get('exception')}")

    loop.set_exception_handler(note)
    yield told
    gc.collect()
    loop.set_exception_handler(None)


async def test_a_fenced_transaction_that_was_given_up(kafka_bootstrap: str) -> None:
    name, connection = uuid4().hex, Connection(kafka_bootstrap, "test")
    bus = KafkaBus(kafka_bootstrap, source="coe/test", start_timeout_s=30, ensure=[TopicSpec(name, 1)])
    await bus.start()
    await bus.stop()
    with reports() as told:
        fenced, newer = (TransactionalProducer(connection, name) for _ in range(2))
        await fenced.start()
        await fenced.begin_transaction()
        await newer.start()
        # Both wait for the broker, which refuses; one stops waiting before.
        committing = asyncio.create_task(fenced.send_offsets({}, name, Identity(1, "member")))
        await fenced.send_message(Message(name, b"key", b"value", []), INVALID_SPAN)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        await until_true(fenced._txn_manager.is_fatal_error)
        await stop_producer(fenced)
        await stop_producer(newer)
        del fenced, newer, committing
    assert told == []


async def test_a_bootstrap_that_was_given_up() -> None:
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with reports() as told:
        admin = closing(AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}"))
        starting = asyncio.create_task(admin.start())
        await until_true(lambda: held)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        # Only now it fails.
        for writer in held:
            writer.transport.abort()
        await admin.close()
        del admin, starting
    server.close()
    assert told == []
