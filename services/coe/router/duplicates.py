"""Detects prompts submitted more than once: for a time, a request id belongs to the first record that carried it.

Redis stores that record's `partition:offset` under the id. The same record delivered again (after a crash or a
rebalance) is not a duplicate. Detection is best effort: while Redis is unreachable, nothing is a duplicate, and the
router never waits for it for long.
"""

import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from coe.platform import logs
from coe.platform.bus.api import Record
from coe.platform.residency.connection import connect, disconnect

_log = logs.get(__name__)

# Seconds without Redis calls after a failure, so that not every batch waits for a timeout.
_PAUSE_S = 5.0
# Number of hash tags. Keys with the same tag share a cluster slot, so one script can read them all.
_TAGS = 16
# One call for many ids: a quarter of the CPU of a pipeline with one command per id.
_SCRIPT = """
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('GET', key)
  if not found[i] then redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
end
return found
"""


class Place(NamedTuple):
    """A record's position on the prompts topic."""

    partition: int
    offset: int


Find = Callable[[Sequence[tuple[str, Record]]], Awaitable[Sequence[bool]]]


async def nothing(prompts: Sequence[tuple[str, Record]]) -> Sequence[bool]:
    """Finds no duplicates: for routers with detection turned off."""
    return [False] * len(prompts)


class Duplicates:
    """Remembers each request id for `ttl_s` seconds after the router first sees it. Must be closed."""

    def __init__(self, redis_url: str, *, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = connect(redis_url)
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._clock = clock
        # 0: Redis is reachable.
        self._away_until = 0.0

    async def find(self, prompts: Sequence[tuple[str, Record]]) -> Sequence[bool]:
        """Whether each prompt was submitted before, in order; of two in `prompts` with the same id, the second was.

        Never raises on a Redis failure: all are False while Redis is unreachable.
        """
        if not prompts or self._clock() < self._away_until:
            return [False] * len(prompts)
        try:
            firsts = await self._firsts(prompts)
        except (RedisError, RedisClusterException, OSError, TimeoutError, ValueError) as error:
            if not self._away_until:
                _log.warning(
                    "prompts that are submitted twice can't be told: Redis is away?",
                    error=f"{type(error).__name__}: {error}",
                )
            self._away_until = self._clock() + _PAUSE_S
            return [False] * len(prompts)
        if self._away_until:
            _log.info("duplicate prompts are detected again")
            self._away_until = 0.0
        return [
            is_duplicate(Place(record.partition, record.offset), first)
            for (_, record), first in zip(prompts, firsts, strict=True)
        ]

    async def close(self) -> None:
        await disconnect(self._redis)

    async def _firsts(self, prompts: Sequence[tuple[str, Record]]) -> list[Place | None]:
        """The place where each id was first seen; None: this is the first time."""
        groups: dict[int, list[int]] = {}
        for index, (request_id, _) in enumerate(prompts):
            groups.setdefault(_tag(request_id) if isinstance(self._redis, RedisCluster) else 0, []).append(index)
        pipe = self._redis.pipeline(transaction=False)
        for group in groups.values():
            keys = [key(prompts[index][0]) for index in group]
            places = [f"{prompts[index][1].partition}:{prompts[index][1].offset}" for index in group]
            pipe.execute_command("EVAL", _SCRIPT, len(keys), *keys, self._ttl_ms, *places)
        found: list[Place | None] = [None] * len(prompts)
        for group, places in zip(groups.values(), await pipe.execute(), strict=True):
            for index, place in zip(group, places, strict=True):
                found[index] = None if place is None else _place(place)
        return found


def is_duplicate(place: Place, first: Place | None) -> bool:
    """Whether the record at `place` duplicates the `first` record with its id.

    In the same partition, the first record has the lower offset: a higher one dates from before the topic was deleted
    and recreated.
    """
    if first is None or first == place:
        return False
    return first.partition != place.partition or first.offset < place.offset


def key(request_id: str) -> str:
    """The Redis key of a request id."""
    return f"coe:request:{{{_tag(request_id)}}}:{request_id}"


def _tag(request_id: str) -> int:
    return zlib.crc32(request_id.encode("utf-8", "surrogatepass")) % _TAGS


def _place(value: bytes) -> Place:
    partition, offset = value.split(b":")
    return Place(int(partition), int(offset))
