"""Connects a program to the brokers with a prompt client of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from coe.client.ended import Ended
from coe.client.prompts import PromptClient
from coe.platform.bus.kafka import KafkaBus
from coe.platform.settings import brokers

# What the router remembers of an id by default (COE_ROUTER_DUPLICATES_S).
_REMEMBERED_S = 600.0
_REMEMBERED_BYTES = 4 * 1024 * 1024


@asynccontextmanager
async def connect(kafka: str, *, source: str = "coe/client", timeout_s: float = 30.0) -> AsyncIterator[PromptClient]:
    """A client of the brokers `kafka` ("host:port", comma-separated). `source` names the program in its events.

    COE_KAFKA_SECURITY and COE_TLS_* configure encryption, COE_KAFKA_SASL_* authentication. Problems are logged with
    `logging`, or with structlog if the program has configured it.

    Raises Unavailable if no broker answers within `timeout_s` or one rejects the client, ArtifactError if these
    settings are unusable, ValueError if `kafka` contains no address.
    """
    if not structlog.is_configured():
        _log_with_logging()
    bus = KafkaBus(brokers(kafka), source=source, start_timeout_s=timeout_s)
    await bus.start()
    try:
        async with PromptClient(bus, ended=Ended(_REMEMBERED_S, _REMEMBERED_BYTES)) as client:
            yield client
    finally:
        await bus.stop()


def _log_with_logging() -> None:
    """By default structlog prints to stdout, which belongs to the program."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
