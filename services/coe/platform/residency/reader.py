"""Reads residency. Never fails: without Redis the view is empty, and callers decide without it."""

import asyncio
import time

import structlog
from google.protobuf.message import DecodeError
from redis.exceptions import RedisClusterException, RedisError

from coe.platform.residency import view
from coe.platform.residency.connection import connect, disconnect, raise_if_cancelled, why

_log = structlog.stdlib.get_logger(__name__)

_SNAPSHOT_TIMEOUT_S = 1.0
# Pause after a failure, so that prompts don't each wait for a timeout.
_PAUSE_S = 1.0


class ResidencyReader:
    """Reads snapshots. `max_age_s`: a snapshot no older than this is reused."""

    def __init__(self, redis_url: str, *, max_age_s: float = 0.1) -> None:
        self._url = redis_url
        self._redis = connect(redis_url)
        self._max_age_s = max_age_s
        self._view = view.ClusterView()
        self._valid_until = 0.0
        self._away = False
        self._lock = asyncio.Lock()

    async def snapshot(self) -> view.ClusterView:
        async with self._lock:
            if time.monotonic() < self._valid_until:
                return self._view
            try:
                async with asyncio.timeout(_SNAPSHOT_TIMEOUT_S):
                    self._view, age = await self._read(), self._max_age_s
                if self._away:
                    self._away = False
                    _log.info("residency is read again")
            except (RedisError, RedisClusterException, OSError, TimeoutError, DecodeError, ValueError) as error:
                self._view, age = view.ClusterView(), _PAUSE_S
                if not self._away:
                    self._away = True
                    _log.warning("residency can't be read: continuing without it", error=await why(self._url, error))
            raise_if_cancelled()
            self._valid_until = time.monotonic() + age
            return self._view

    async def close(self) -> None:
        await disconnect(self._redis)

    async def _read(self) -> view.ClusterView:
        epochs = {
            name.decode(): int(score) for name, score in await self._redis.zrange(view.EPOCHS, 0, -1, withscores=True)
        }
        workers = [name.decode() for name in await self._redis.smembers(view.WORKERS)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for node, epoch in epochs.items():
                pipe.hgetall(view.node_key(node, epoch))
            for worker in workers:
                pipe.hgetall(view.queue_key(worker))
            answers = await pipe.execute()
        found: dict[str, dict[str, view.WorkerView]] = {}
        for worker, fields in zip(workers, answers[len(epochs) :], strict=True):
            if fields:
                parsed = view.parse_worker(fields)
                found.setdefault(parsed.node, {})[worker] = parsed
        return view.ClusterView(
            {
                node: view.parse_node(epoch, fields, found.get(node, {}))
                for (node, epoch), fields in zip(epochs.items(), answers, strict=False)
                if fields
            }
        )
