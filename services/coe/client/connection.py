"""A prompt client of a program's own, on a bus of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coe.client.ended import Ended
from coe.client.prompts import PromptClient
from coe.platform.bus.kafka import KafkaBus

# What the router remembers of an id by default (COE_ROUTER_DUPLICATES_S).
_REMEMBERED_S = 600.0
_REMEMBERED_BYTES = 4 * 1024 * 1024


@asynccontextmanager
async def connect(kafka: str, *, source: str = "coe/client", timeout_s: float = 30.0) -> AsyncIterator[PromptClient]:
    """A client of the brokers `kafka` ("host:port", several with commas). `source` names the program in its events.

    COE_KAFKA_SECURITY and COE_TLS_* encrypt it, COE_KAFKA_SASL_* say who we are. Raises Unavailable when no broker
    answers within `timeout_s`, or one refuses us.
    """
    bus = KafkaBus(kafka, source=source, start_timeout_s=timeout_s)
    await bus.start()
    try:
        async with PromptClient(bus, ended=Ended(_REMEMBERED_S, _REMEMBERED_BYTES)) as client:
            yield client
    finally:
        await bus.stop()
