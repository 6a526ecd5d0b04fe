"""A prompt client of a program's own, on a bus of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coe.client.prompts import PromptClient
from coe.platform.bus.kafka import KafkaBus


@asynccontextmanager
async def connect(kafka: str, *, source: str = "coe/client", timeout_s: float = 30.0) -> AsyncIterator[PromptClient]:
    """A client of the brokers `kafka` ("host:port", several with commas). `source` names the program in its events.

    COE_KAFKA_SECURITY and COE_TLS_* encrypt it. Raises Unavailable when no broker answers within `timeout_s`.
    """
    bus = KafkaBus(kafka, source=source, start_timeout_s=timeout_s)
    await bus.start()
    try:
        async with PromptClient(bus) as client:
            yield client
    finally:
        await bus.stop()
