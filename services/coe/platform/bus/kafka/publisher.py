"""Publishes messages outside of transactions."""

import asyncio
import time
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    OutOfOrderSequenceNumber,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from opentelemetry.trace import Span

from coe.platform.bus.api import Outgoing
from coe.platform.bus.codec import encode
from coe.platform.bus.headers import Headers, cloud_event
from coe.platform.bus.kafka.client import closing, stop_producer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.errors import PromptTooLarge, Unavailable
from coe.platform.telemetry import messaging

_log = structlog.stdlib.get_logger(__name__)
_PUBLISH_TIMEOUT_S = 30.0
# The errors seen when a broker hangs or is unreachable.
_SILENCE = (TimeoutError, KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)


class KafkaPublisher:
    """Publishes idempotently: a retry after a lost acknowledgement does not duplicate a message.

    A producer numbers its messages, and the broker accepts none after a gap. A message that was abandoned, for example
    because the broker was unreachable for long, leaves a permanent gap; the producer is then replaced.
    """

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source
        self._producer: AIOKafkaProducer | None = None
        # The producer has abandoned a message.
        self._gap = False
        self._replacing = asyncio.Lock()

    async def start(self) -> None:
        self._producer = await self._started()

    async def _started(self) -> AIOKafkaProducer:
        producer = closing(AIOKafkaProducer(**self._connection.producer(), linger_ms=2))
        try:
            await producer.start()
        except BaseException:
            await stop_producer(producer)
            raise
        return producer

    async def stop(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await stop_producer(producer)

    async def publish(self, outgoing: Outgoing) -> None:
        """Returns once all in-sync replicas have the message.

        Raises Unavailable after 30 s; the message may still be delivered after that.
        """
        span = messaging.start_send(outgoing.topic, outgoing.key)
        try:
            try:
                await _delivered(await self._send(outgoing, span), outgoing.topic)
            except Unavailable as error:
                if not isinstance(error.__cause__, OutOfOrderSequenceNumber):
                    raise
                # Rejected for good, because of a gap. The replacement producer has none.
                await _delivered(await self._send(outgoing, span), outgoing.topic)
        finally:
            span.end()

    async def post(self, outgoing: Outgoing) -> None:
        """Returns once the message is buffered. Raises Unavailable if the buffer stays full for 30 s."""
        messaging.count_sent(outgoing.topic)
        delivery = await self._send(outgoing)
        delivery.add_done_callback(_log_failure)

    async def _working(self) -> AIOKafkaProducer:
        """The producer, replaced first if it has a gap or its sender has ended. Raises KafkaError if none can start."""
        if self._is_broken():
            async with self._replacing:
                if self._is_broken():
                    broken, self._producer = self._producer, await self._started()
                    self._gap = False
                    _log.warning("the producer broke and was replaced")
                    await stop_producer(broken)
        if self._producer is None:
            raise Unavailable("the bus is not started")
        return self._producer

    def _is_broken(self) -> bool:
        return self._producer is not None and (self._gap or self._producer._sender.sender_task.done())

    def _ended(self, producer: AIOKafkaProducer, delivery: "asyncio.Future[object]") -> None:
        if not delivery.cancelled() and delivery.exception() is not None and producer is self._producer:
            self._gap = True

    async def _send(self, outgoing: Outgoing, span: Span | None = None) -> "asyncio.Future[object]":
        now_ms = time.time_ns() // 1_000_000
        headers = cloud_event(outgoing, self._source, now_ms) + messaging.trace_headers(span)
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                producer = await self._working()
                sent = await _handed_over(producer, outgoing, headers)
        except MessageSizeTooLargeError:
            raise PromptTooLarge("the message is larger than a topic takes", topic=outgoing.topic) from None
        except (TimeoutError, KafkaError, OSError) as error:
            raise _unavailable("does not take messages", error, outgoing.topic) from error
        sent.add_done_callback(partial(self._ended, producer))
        return sent


async def _handed_over(producer: AIOKafkaProducer, outgoing: Outgoing, headers: Headers) -> "asyncio.Future[object]":
    cluster = producer.client.cluster
    heard = cluster._last_successful_refresh_ms
    try:
        sent: asyncio.Future[object] = await producer.send(
            outgoing.topic,
            encode(outgoing),
            outgoing.key.encode(),
            partition=outgoing.partition,
            headers=headers,
        )
    except UnknownTopicOrPartitionError:
        if cluster._last_successful_refresh_ms == heard:
            # No metadata has arrived meanwhile, so the broker is unreachable rather than the topic unknown.
            raise TimeoutError from None
        raise
    return sent


async def _delivered(sent: "asyncio.Future[object]", topic: str) -> None:
    try:
        async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
            await asyncio.shield(sent)
    except (TimeoutError, KafkaError) as error:
        raise _unavailable("did not acknowledge the message", error, topic) from error


def _unavailable(what: str, error: Exception, topic: str) -> Unavailable:
    reason = "it does not answer" if isinstance(error, _SILENCE) else repr(error)
    return Unavailable(f"the Kafka broker {what}: {reason}", topic=topic)


def _log_failure(delivery: "asyncio.Future[object]") -> None:
    if not delivery.cancelled() and (error := delivery.exception()) is not None:
        _log.warning("a posted message was not delivered", error=repr(error))
