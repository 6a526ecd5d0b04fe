"""Stops aiokafka's clients without leaking connections.

aiokafka ends its tasks by cancellation, which leaks connections in several cases:

* A task cancelled while it opens a connection: the bootstrap connection when a start is cancelled, and one that is
  opened after the client has closed all connections it knew.
* A connection closed by the broker and requested again just then: aiokafka drops it without closing it.
* A consumer whose stop takes too long (a group that does not settle) never closes its client.
* Neither does a consumer whose last fetch failed just before the stop: its backing-off task ends cancelled, and stop()
  raises that cancellation as if the caller had been cancelled.

The classes have no hooks for this, so their client's class is replaced, and tasks left over by a stop are ended here.
"""

import asyncio
from collections.abc import Coroutine
from itertools import chain
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.producer.message_accumulator import MessageAccumulator

_log = structlog.stdlib.get_logger(__name__)

User = TypeVar("User", AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient)

STOP_TIMEOUT_S = 3.0
# Time allowed for connections that are still being opened when their client closes.
_OPENING_TIMEOUT_S = 5.0


class _Client(AIOKafkaClient):  # type: ignore[misc]
    """Opens connections in tasks of its own, which run to completion. Opens none once it is closing."""

    _opening: set["asyncio.Task[Any]"]
    _closes: bool

    async def bootstrap(self) -> None:
        await self._to_the_end(super().bootstrap())

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        known = self._conns.get((node_id, group))
        if known is not None:
            if known.connected():
                return known
            # The broker has closed it. aiokafka would drop it without closing this side or failing pending requests.
            known.close(reason=CloseReason.CONNECTION_BROKEN)
        if self._closes:
            return None
        return await self._to_the_end(super()._get_conn(node_id, group=group))

    async def close(self) -> None:
        self._closes = True
        if self._opening:
            await asyncio.wait(self._opening, timeout=_OPENING_TIMEOUT_S)
        await super().close()

    async def _to_the_end(self, work: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.create_task(work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        task.add_done_callback(heard)
        return await asyncio.shield(task)


def heard(future: "asyncio.Future[Any]") -> None:
    """Marks a done future's exception as retrieved, so that it is not logged if nothing awaits the future any more."""
    if future.done() and not future.cancelled():
        future.exception()


def closing(user: User) -> User:
    """Makes the client of `user` close every connection it opens. Returns `user`, which must not have started yet."""
    client = user.client if isinstance(user, AIOKafkaProducer) else user._client
    client.__class__ = _Client
    client._opening, client._closes = set(), False
    return user


async def stop_producer(producer: AIOKafkaProducer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Flushes and closes the producer. After `timeout_s` abandons what has not been delivered."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except Exception:
        # Callers that awaited a send have already been told of its failure.
        await _end(producer._sender.sender_task)
        _give_up(producer._message_accumulator)
        await producer.client.close()


def _give_up(accumulator: MessageAccumulator) -> None:
    """Cancels unsent batches: the stop's flush, a task of its own, would wait for them forever."""
    for batch in chain(accumulator._pending_batches, *accumulator._batches.values()):
        batch.future.cancel()


async def stop_consumer(consumer: AIOKafkaConsumer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Leaves the group and closes the consumer. After `timeout_s` the group is left to detect that it is gone."""
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.stop()
    except BaseException as error:
        ours = isinstance(error, Exception) or _nobodys(error)
        if ours:
            _log.warning("stopping a consumer timed out", error=repr(error))
        await _abandon(consumer)
        if not ours:
            raise


def _nobodys(error: BaseException) -> bool:
    """Whether the error is the cancellation of an awaited aiokafka task rather than of the current task."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


async def _abandon(consumer: AIOKafkaConsumer) -> None:
    """Completes a failed stop of the consumer, without leaving the group."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    if coordinator is not None:
        for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task"):
            await _end(getattr(coordinator, name, None))
    if fetcher is not None:
        for task in (fetcher._fetch_task, *fetcher._pending_tasks):
            await _end(task)
        # close() would await them and raise the errors they ended with.
        fetcher._pending_tasks.clear()
        await fetcher.close()
    await consumer._client.close()


async def _end(task: "asyncio.Task[None] | None") -> None:
    """Cancels until the task ends: on a first cancellation aiokafka's tasks only finish what is in progress."""
    for _ in range(20):
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
