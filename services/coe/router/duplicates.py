"""Which prompts were submitted before: a request id belongs to the first record that came with it, for a time.

Redis remembers `partition:offset` of that record by the id. A record that comes again (after a crash, a rebalance) is
the same one and no duplicate. Redis is never waited for long and never the authority: while it is away nothing is a
duplicate.
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

# After a failure Redis is left alone for so long, so that not every batch waits for its time-out.
_PAUSE_S = 5.0
# Keys of one tag are in one slot of a cluster, where one script may see them all.
_TAGS = 16
# One call for many ids: a fourth of the CPU that as many commands take in a pipeline.
_SCRIPT = """
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('GET', key)
  if not found[i] then redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
end
return found
"""


class Place(NamedTuple):
    """Where a record lies on the prompts' topic."""

    partition: int
    offset: int


Find = Callable[[Sequence[tuple[str, Record]]], Awaitable[Sequence[bool]]]


async def nothing(prompts: Sequence[tuple[str, Record]]) -> Sequence[bool]:
    """For routers that tell no duplicates."""
    return [False] * len(prompts)


class Duplicates:
    """Remembers each request id for `ttl_s` seconds after the router met it first. Close it at the end."""

    def __init__(self, redis_url: str, *, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = connect(redis_url)
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._clock = clock
        # 0: Redis answers.
        self._away_until = 0.0

    async def find(self, prompts: Sequence[tuple[str, Record]]) -> Sequence[bool]:
        """Whether each was submitted before, in order: of two with one id in `prompts` the second was.

        Never fails: all False while Redis does not answer.
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
        """Where each id was met first; None: here and now."""
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
    """Whether a record is another than the `first` of its id.

    In one partition the first lies before: one that lies behind is of a topic that has been deleted and made anew.
    """
    if first is None or first == place:
        return False
    return first.partition != place.partition or first.offset < place.offset


def key(request_id: str) -> str:
    """Redis's key of an id."""
    return f"coe:request:{{{_tag(request_id)}}}:{request_id}"


def _tag(request_id: str) -> int:
    return zlib.crc32(request_id.encode("utf-8", "surrogatepass")) % _TAGS


def _place(value: bytes) -> Place:
    partition, offset = value.split(b":")
    return Place(int(partition), int(offset))
