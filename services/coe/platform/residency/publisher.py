"""Writes residency to Redis in the background, so that callers never wait and never fail."""

import asyncio
import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

import structlog
from redis.exceptions import RedisClusterException, RedisError

from coe._proto import memory_tier_manager_pb2 as pb
from coe.platform import backoff
from coe.platform.residency import view
from coe.platform.residency.connection import connect, disconnect, raise_if_cancelled, why
from coe.platform.residency.gauges import Gauges
from coe.platform.telemetry import registry

_log = structlog.stdlib.get_logger(__name__)


class ResidencyPublisher:
    """Use as a context manager, or call `start` and `close`. The `publish*` methods only record the newest state.

    `epoch`: must grow with every run of the node's memory-tier manager, such as its start in milliseconds since 1970.
    """

    def __init__(self, redis_url: str, node: str, epoch: int) -> None:
        self._url = redis_url
        self._redis = connect(redis_url)
        self._node = node
        self._epoch = epoch
        # Everything Redis should hold: key -> field -> value (None: delete the field).
        self._state: dict[str, dict[str, bytes | None]] = {}
        self._changed: dict[str, set[str]] = {}
        self._claims: dict[str, view.Claim] = {}
        self._gauges = Gauges()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="residency publisher")

    async def close(self) -> None:
        """Stops and, if Redis responds, deletes the published keys."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            if self._state:
                await self._redis.delete(*self._state)
        except (RedisError, RedisClusterException, OSError):
            pass
        finally:
            await disconnect(self._redis)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def publish(self, *experts: pb.ExpertResidency) -> None:
        self._note(
            view.node_key(self._node, self._epoch),
            {f"{view.EXPERT}{expert.expert_id}": expert.SerializeToString() for expert in experts},
        )

    def publish_usage(self, *tiers: pb.TierUsage) -> None:
        self._note(
            view.node_key(self._node, self._epoch),
            {f"{view.TIER}{int(tier.tier)}": tier.SerializeToString() for tier in tiers},
        )
        for tier in tiers:
            self._gauges.tier(tier)

    def publish_queue(self, worker: str, depths: Mapping[str, int], partitions: Collection[int] = ()) -> None:
        """Publishes the worker's prompts waiting or running, by expert. Experts left out have none.

        `partitions`: the worker's current partitions of the assignments topic.
        """
        self._gauges.queue(worker, depths)
        key = view.queue_key(worker)
        fields: dict[str, bytes | None] = dict.fromkeys(self._state.get(key, {}))
        fields |= {f"{view.EXPERT}{expert}": str(depth).encode() for expert, depth in depths.items() if depth}
        claim, mine = self._claims.get(worker), tuple(sorted(partitions))
        if claim is None or claim.partitions != mine:
            claim = self._claims[worker] = view.Claim(time.time_ns() // 1_000_000, mine)
        self._note(key, fields | {view.NODE: self._node.encode(), view.PARTITIONS: view.claim_field(claim)})

    def _note(self, key: str, fields: Mapping[str, bytes | None]) -> None:
        state = self._state.setdefault(key, {})
        changed = [name for name, value in fields.items() if state.get(name) != value]
        state.update(fields)
        if changed:
            self._changed.setdefault(key, set()).update(changed)
            self._wake.set()

    async def _run(self) -> None:
        failures, published = 0, registry.gauge("coe.residency.published")
        while True:
            try:
                await self._write()
            except Exception as error:
                raise_if_cancelled()
                # Whatever the error, the publisher must not stop: residency is only a hint.
                failures += 1
                published.set(0)
                if failures == 1:
                    _log.warning(
                        "residency can't be published: is Redis unreachable?", error=await why(self._url, error)
                    )
                self._all_changed()
                await asyncio.sleep(backoff.delay_s(failures, cap_s=view.SIGN_OF_LIFE_S))
                continue
            raise_if_cancelled()
            published.set(1)
            if failures:
                failures = 0
                _log.info("residency is published again")
            await self._change_or_sign_of_life()

    async def _change_or_sign_of_life(self) -> None:
        try:
            async with asyncio.timeout(view.SIGN_OF_LIFE_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write(self) -> None:
        """Writes changes and renews the expiry of every key. Keys that Redis has lost are rewritten completely."""
        self._wake.clear()
        changed, self._changed = self._changed, {}
        for key in list(self._state):
            if not await self._redis.exists(key):
                changed[key] = set(self._state[key])
            async with self._redis.pipeline(transaction=True) as pipe:
                fields = {name: self._state[key][name] for name in changed.get(key, ())}
                gone = [name for name, value in fields.items() if value is None]
                for name, value in fields.items():
                    if value is not None:
                        pipe.hset(key, name, value)
                if gone:
                    pipe.hdel(key, *gone)
                pipe.expire(key, view.LIFETIME_S)
                await pipe.execute()
            for name in gone:
                if self._state[key][name] is None:
                    del self._state[key][name]
            await self._register(key)

    async def _register(self, key: str) -> None:
        if key == view.node_key(self._node, self._epoch):
            await self._take_name()
        else:
            await self._redis.sadd(view.WORKERS, key.removeprefix("coe:queues:{").removesuffix("}"))

    async def _take_name(self) -> None:
        """Registers this epoch as the node's newest, unless a newer one is alive."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(view.EPOCHS, {self._node: self._epoch}, gt=True)
            pipe.zscore(view.EPOCHS, self._node)
            _, newest = await pipe.execute()
        if newest > self._epoch and not await self._redis.exists(view.node_key(self._node, int(newest))):
            # The newer epoch is dead: the clock has been set back since it started.
            await self._redis.zadd(view.EPOCHS, {self._node: self._epoch})

    def _all_changed(self) -> None:
        self._changed = {key: set(fields) for key, fields in self._state.items()}
