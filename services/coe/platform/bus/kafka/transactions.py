"""Runs the transactions of one group member, one at a time, each over all partitions with something to commit.

Two checks by the broker keep a partition's former owner from writing:

* An offset commit carries the group's generation and is refused if the group has moved on. A new owner reads committed
  offsets only after waiting for commits accepted before.
* The transactional id is that of one of the process's partitions, its *lead*. A new owner of a partition first bumps
  the epoch of the partition's id. If a process died with this partition as its lead, that ends its transaction at once
  rather than after the broker's timeout.

So a session is safe without an orderly handover, and one that is kept through a rebalance can simply continue.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from coe.platform import backoff
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.client import stop_producer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.generations import Identity
from coe.platform.bus.kafka.pace import Pace
from coe.platform.bus.kafka.producers import EXPELLED, TransactionalProducer, is_refusal
from coe.platform.bus.kafka.session import Completion, PartitionSession
from coe.platform.errors import CoEError, InternalError
from coe.platform.telemetry import messaging

_log = structlog.stdlib.get_logger(__name__)

_TIMEOUT_S = 15.0
# A consumer expelled from its group learns of it with its next heartbeat. Until then, don't fight the new owner.
_FENCED_PAUSE_S = 2.0
# A pending commit usually ends within this time.
_UNSTABLE_PAUSE_S = 0.02
_MAX_PER_TRANSACTION = 512


class Transactions:
    """Commits what the sessions complete. `sessions` is the membership's own mapping of its current partitions."""

    def __init__(
        self, group: str, connection: Connection, admin: Admin, sessions: Mapping[TopicPartition, PartitionSession]
    ) -> None:
        self._group = group
        self._connection = connection
        self._admin = admin
        self._sessions = sessions
        self._identity = self._used = Identity(-1, "")
        self._wake = asyncio.Event()
        self._assigned = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        # The last transaction carried a suspect.
        self._suspects_turn = False
        # Failures since the last commit.
        self._failures = 0

    def assigned(self, identity: Identity) -> None:
        """Called after a rebalance: the sessions are those of this member in this generation."""
        self._identity = identity
        self._assigned.set()
        self.wake()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"transactions of {self._group}")

    def wake(self) -> None:
        """Signals that there is something to do."""
        self._wake.set()

    def check(self) -> None:
        """Raises InternalError if the task has ended by itself: records would be handed out but never committed."""
        if self._task is not None and self._task.done():
            error = None if self._task.cancelled() else self._task.exception()
            raise InternalError(f"the transactions of {self._group} have ended: {error!r}") from error

    async def stop(self) -> None:
        """Stops at once, abandoning the transaction in progress."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            self._assigned.clear()
            lead = next(iter(self._sessions.values()), None)
            if lead is None:
                await self._assigned.wait()
                continue
            producer: TransactionalProducer | None = None
            expelled, pause = False, 0.0
            try:
                producer = TransactionalProducer(self._connection, lead.transactional_id)
                async with asyncio.timeout(_TIMEOUT_S):
                    await producer.start()
                lead.fenced = True
                await self._serve(producer, lead)
            except (*EXPELLED, ProducerFenced) as error:
                _log.info("the partitions moved to another process", group=self._group, error=repr(error))
                self._lose(kept=False)
                expelled, pause = isinstance(error, EXPELLED), _FENCED_PAUSE_S
            except Exception as error:
                self._lose(kept=True)
                # Even without a transaction: the current assignment has been tried and is no reason to retry early.
                self._used = self._identity
                self._failures += 1
                pause = backoff.delay_s(self._failures)
                _warn("transactions failed", self._group, error)
            finally:
                await self._stop_reading()
                if producer is not None:
                    await stop_producer(producer)
            await self._rest(None if expelled else pause)

    async def _rest(self, pause_s: float | None) -> None:
        """Waits `pause_s`, but less if the group has rebalanced since the last transaction or failure.

        None: waits for the rebalance.
        """
        try:
            async with asyncio.timeout(pause_s):
                while self._identity == self._used:
                    self._assigned.clear()
                    await self._assigned.wait()
        except TimeoutError:
            return

    async def _serve(self, producer: TransactionalProducer, lead: PartitionSession) -> None:
        """Takes over partitions and commits until the lead is gone."""
        loop = asyncio.get_running_loop()
        pace = Pace(loop.time())
        while self._sessions.get(lead.tp) is lead and lead.fenced:
            self._wake.clear()
            await self._take_over()
            ready = [session for session in self._sessions.values() if session.ready]
            if not any(session.waiting or session.unmarked for session in ready):
                await self._wake.wait()
            elif (pause := pace.next_at() - loop.time()) > 0:
                await asyncio.sleep(pause)
            else:
                pace.begun(loop.time(), sum(len(session.waiting) for session in ready))
                await self._commit(producer, ready)

    async def _commit(self, producer: TransactionalProducer, ready: Sequence[PartitionSession]) -> None:
        """Runs one transaction. After an error it is unknown whether it was committed."""
        self._used = self._identity
        batch = self._batch([completion for session in ready for completion in session.waiting.values()])
        ended: dict[PartitionSession, list[int]] = {session: [] for session in ready if session.unmarked}
        for completion in batch:
            completion.under_way = True
            ended.setdefault(completion.session, []).append(completion.record.offset)
        # Computed before any await: a session closed in the meantime counts the records it dropped as done.
        offsets = {session.tp: session.ledger.after(those) for session, those in ended.items()}
        marked = {session: session.marked() for session in ended}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._transaction(producer, batch, offsets)
        except BaseException:
            for completion in batch:
                completion.under_way = False
                if completion.session.closed:
                    completion.session.finish(completion.record.offset, committed=False)
            raise
        self._failures = 0
        longest = [completion.session.finish(completion.record.offset, committed=True) for completion in batch]
        if longest:
            messaging.batch_done(batch[0].record.topic, self._group, max(longest))
        for session, until in marked.items():
            session.count(until)
            session.resume()

    async def _transaction(
        self,
        producer: TransactionalProducer,
        batch: Sequence[Completion],
        offsets: Mapping[TopicPartition, tuple[int, str]],
    ) -> None:
        await producer.begin_transaction()
        sent: list[tuple[Completion, asyncio.Future[object]]] = []
        for completion in batch:
            span = messaging.record_span(completion.record)
            for message in completion.messages:
                try:
                    sent.append((completion, await producer.send_message(message, span)))
                except Exception as error:
                    if is_refusal(error):
                        _blame([completion], error)
                    raise
        await producer.send_offsets(offsets, self._group, self._used)
        # Awaited before the commit: aiokafka would commit even if the broker had refused a message.
        try:
            await asyncio.gather(*(delivery for _, delivery in sent))
        except Exception as error:
            _blame({completion for completion, delivery in sent if _is_refused(delivery)}, error)
            raise
        await producer.commit_transaction()

    def _batch(self, waiting: Sequence[Completion]) -> list[Completion]:
        """The completions of the next transaction. A suspect gets one to itself, alternating with the others."""
        suspects = [completion for completion in waiting if completion.suspect]
        others = [completion for completion in waiting if not completion.suspect]
        self._suspects_turn = bool(suspects) and not (self._suspects_turn and others)
        return suspects[:1] if self._suspects_turn else others[:_MAX_PER_TRANSACTION]

    async def _take_over(self) -> None:
        """Fences former owners of new partitions, and starts reading committed offsets where they are unknown."""
        while new := [session for session in self._sessions.values() if not session.fenced]:
            identity = self._identity
            await self._stop_reading()
            async with asyncio.timeout(_TIMEOUT_S):
                await self._admin.fence([session.transactional_id for session in new])
            if identity == self._identity:
                for session in new:
                    session.fenced = True
        unread = any(not session.ready for session in self._sessions.values())
        if unread and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read(), name=f"offsets of {self._group}")

    async def _read(self) -> None:
        """Reads committed offsets concurrently with transactions: it may have to wait for a former owner's to end."""
        failures = 0
        while unread := [session for session in self._sessions.values() if session.fenced and not session.ready]:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    found = await self._admin.committed(self._group, [session.tp for session in unread])
                failures = 0
            except Exception as error:
                failures += 1
                _warn("committed offsets can't be read", self._group, error)
                await asyncio.sleep(backoff.delay_s(failures))
                continue
            for session in unread:
                if session.tp in found and session.fenced and not session.closed:
                    session.acquired(*found[session.tp])
            self.wake()
            if len(found) < len(unread):
                await asyncio.sleep(_UNSTABLE_PAUSE_S)

    async def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    def _lose(self, *, kept: bool) -> None:
        for session in self._sessions.values():
            session.lose(kept=kept)


def _blame(refused: Collection[Completion], error: Exception) -> None:
    """Marks the completions as suspects, and replaces the messages of those that already were.

    In a shared transaction another completion's message may have caused the refusal, so each is retried alone first.
    """
    for completion in refused:
        if completion.suspect and completion.instead is not None:
            reason = f"what came of the prompt can't be published: {error!r}"
            _log.error("a result was refused", topic=completion.record.topic, reason=reason)
            completion.messages, completion.instead = completion.instead(InternalError(reason)), None
        completion.suspect = True


def _is_refused(delivery: "asyncio.Future[object]") -> bool:
    return delivery.done() and not delivery.cancelled() and is_refusal(delivery.exception())


def _warn(what: str, group: str, error: Exception) -> None:
    expected = isinstance(error, KafkaError | TimeoutError | OSError | CoEError)
    _log.warning(what, group=group, error=repr(error), exc_info=None if expected else error)
