"""A client that fails fast: residency is a hint, nobody may wait for it."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_S = 0.5


def connect(url: str) -> Any:
    """A `redis.asyncio.Redis`; the library's types do not tell bytes from str."""
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
    )
