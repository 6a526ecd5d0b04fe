"""Ends aiokafka's clients so that no connection stays open.

aiokafka ends its tasks by cancellation. A task that is opening a connection by then leaves it to nobody: the
bootstrap connection when a start is cancelled, and one that is kept after the client has closed all that it knew. A
connection that the broker ended is forgotten unclosed when somebody asks for it just then. A consumer whose stop
takes too long (a group that does not settle) never gets to close its client, nor does one whose last fetch failed a
moment before: the task that pauses then ends cancelled, and its cancellation comes out of the stop as if it were the
caller's. The classes offer no way to say otherwise, so their client is given another class, and what such a stop
leaves running is ended here.
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
# For connections that are being opened while their client closes.
_OPENING_TIMEOUT_S = 5.0


class _Client(AIOKafkaClient):  # type: ignore[misc]
    """Opens connections in tasks of its own, which are let end, and none once it closes."""

    _opening: set["asyncio.Task[Any]"]
    _closes: bool

    async def bootstrap(self) -> None:
        await self._to_the_end(super().bootstrap())

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        known = self._conns.get((node_id, group))
        if known is not None:
            if known.connected():
                return known
            # The broker has ended it. aiokafka would only forget it: open on this side, and what waits on it waiting.
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
    """Whoever waited for it may have given up: then the error of a future that is done is no news for the log."""
    if future.done() and not future.cancelled():
        future.exception()


def closing(user: User) -> User:
    """`user`, whose client ends what it opens. For one that has not started."""
    client = user.client if isinstance(user, AIOKafkaProducer) else user._client
    client.__class__ = _Client
    client._opening, client._closes = set(), False
    return user


async def stop_producer(producer: AIOKafkaProducer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Flushes and closes; after `timeout_s` gives up what is not delivered yet."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except Exception:
        # What failed was reported to whoever awaited the send.
        await _end(producer._sender.sender_task)
        _give_up(producer._message_accumulator)
        await producer.client.close()


def _give_up(accumulator: MessageAccumulator) -> None:
    """The stop's flush, a task of its own, waits for what nobody sends any more."""
    for batch in chain(accumulator._pending_batches, *accumulator._batches.values()):
        batch.future.cancel()


async def stop_consumer(consumer: AIOKafkaConsumer, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Leaves the group and closes; after `timeout_s` the group has to notice by itself."""
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
    """Whether it is a cancellation that nobody asked this task for: that of a task of aiokafka's, awaited by it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


async def _abandon(consumer: AIOKafkaConsumer) -> None:
    """The rest of the consumer's stop, without the group."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    if coordinator is not None:
        for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task"):
            await _end(getattr(coordinator, name, None))
    if fetcher is not None:
        for task in (fetcher._fetch_task, *fetcher._pending_tasks):
            await _end(task)
        # Its close awaits them, and would raise what ended them.
        fetcher._pending_tasks.clear()
        await fetcher.close()
    await consumer._client.close()


async def _end(task: "asyncio.Task[None] | None") -> None:
    """aiokafka's tasks take a first cancellation as a wish to wait for what is under way, the next ones end that."""
    for _ in range(20):
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
