"""Sends in a transaction, and ends producers for sure, also when the broker is away."""

import asyncio

from aiokafka import AIOKafkaProducer
from opentelemetry.trace import Span

from coe.platform.bus.messages import Message
from coe.platform.telemetry import messaging

STOP_TIMEOUT_S = 3.0


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


async def start_producer(producer: AIOKafkaProducer) -> None:
    """Connects. Cancelled half-way, aiokafka would leave its first connection open: the start is let end before."""
    starting = asyncio.ensure_future(producer.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting}, timeout=STOP_TIMEOUT_S)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        raise


async def stop_producer(producer: AIOKafkaProducer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Flushes and closes; after `timeout_s` gives up what is not delivered yet."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except TimeoutError:
        await _abandon(producer)
    except Exception:
        # What failed was reported to whoever awaited the send.
        await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """aiokafka's `stop` waits until everything is delivered and has no way out: end its task by force.

    The first cancellation makes the task wait for the requests under way, the next ones cancel those.
    """
    task = producer._sender.sender_task
    for _ in range(20):
        if task is None or task.done():
            break
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    await producer.client.close()
