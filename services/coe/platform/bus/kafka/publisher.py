"""Publishes outside of transactions."""

import asyncio
import time

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from opentelemetry.trace import Span

from coe.platform.bus.api import Outgoing
from coe.platform.bus.headers import cloud_event
from coe.platform.bus.kafka.client import closing, stop_producer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.errors import PromptTooLarge, Unavailable
from coe.platform.telemetry import messaging

_log = structlog.stdlib.get_logger(__name__)
_PUBLISH_TIMEOUT_S = 30.0


class KafkaPublisher:
    """Idempotent: a retry after a lost acknowledgement does not double a message."""

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source
        self._producer: AIOKafkaProducer | None = None
        self._replacing = asyncio.Lock()

    async def start(self) -> None:
        producer = closing(AIOKafkaProducer(**self._connection.producer(), linger_ms=2))
        try:
            await producer.start()
        except BaseException:
            await stop_producer(producer)
            raise
        self._producer = producer

    async def stop(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await stop_producer(producer)

    async def publish(self, outgoing: Outgoing) -> None:
        """Returns when all in-sync replicas have it. Raises Unavailable after 30 s; it may still get through then."""
        span = messaging.start_send(outgoing.topic, outgoing.key)
        try:
            await _delivered(await self._send(outgoing, span), outgoing.topic)
        finally:
            span.end()

    async def post(self, outgoing: Outgoing) -> None:
        """Returns when it is buffered. Raises Unavailable when the buffer stays full for 30 s."""
        messaging.count_sent(outgoing.topic)
        delivery = await self._send(outgoing)
        delivery.add_done_callback(_log_failure)

    async def _working(self) -> AIOKafkaProducer:
        """The producer; a new one when its sequence of messages is broken for good, which ends aiokafka's sender."""
        if self._producer is None or self._producer._sender.sender_task.done():
            async with self._replacing:
                if self._producer is not None and self._producer._sender.sender_task.done():
                    _log.warning("the producer broke and is replaced")
                    await self.stop()
                    await self.start()
            if self._producer is None:
                raise Unavailable("the bus is not started")
        return self._producer

    async def _send(self, outgoing: Outgoing, span: Span | None = None) -> "asyncio.Future[object]":
        now_ms = time.time_ns() // 1_000_000
        headers = cloud_event(outgoing, self._source, now_ms) + messaging.trace_headers(span)
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                sent: asyncio.Future[object] = await (await self._working()).send(
                    outgoing.topic,
                    outgoing.message.SerializeToString(),
                    outgoing.key.encode(),
                    partition=outgoing.partition,
                    headers=headers,
                )
        except MessageSizeTooLargeError:
            raise PromptTooLarge("the message is larger than a topic takes", topic=outgoing.topic) from None
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(f"the broker does not take messages: {error!r}", topic=outgoing.topic) from error
        return sent


async def _delivered(sent: "asyncio.Future[object]", topic: str) -> None:
    try:
        async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
            await asyncio.shield(sent)
    except (TimeoutError, KafkaError) as error:
        raise Unavailable(f"the broker did not acknowledge the message: {error!r}", topic=topic) from error


def _log_failure(delivery: "asyncio.Future[object]") -> None:
    if not delivery.cancelled() and (error := delivery.exception()) is not None:
        _log.warning("a posted message was not delivered", error=repr(error))
