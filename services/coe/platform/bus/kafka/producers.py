"""Sends in a transaction."""

import asyncio

from aiokafka import AIOKafkaProducer
from opentelemetry.trace import Span

from coe.platform.bus.messages import Message
from coe.platform.telemetry import messaging


async def send(producer: AIOKafkaProducer, message: Message, parent: Span) -> "asyncio.Future[object]":
    """Hands the message over, under a span below `parent`; the future ends with its delivery."""
    key = message.key.decode("utf-8", "replace") if message.key is not None else ""
    span = messaging.start_send(message.topic, key, parent)
    try:
        sent: asyncio.Future[object] = await producer.send(
            message.topic,
            message.value,
            message.key,
            partition=message.partition,
            headers=message.headers + messaging.trace_headers(span),
        )
    finally:
        span.end()
    # A transaction that fails for another reason leaves it unawaited.
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
    return sent
