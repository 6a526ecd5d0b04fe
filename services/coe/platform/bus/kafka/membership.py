"""A process's membership in a consumer group: the consumer, and a session per assigned partition.

The rebalance listener only changes state and never waits: aiokafka calls it during the rebalance, so waiting for
anything that depends on the rebalance would deadlock.
"""

import asyncio
from collections.abc import Awaitable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from coe.platform import backoff
from coe.platform.bus.api import Record, Subscription
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.assignor import SharesAssignor
from coe.platform.bus.kafka.client import closing, stop_consumer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.generations import Identity
from coe.platform.bus.kafka.lag import watch_lag
from coe.platform.bus.kafka.session import PartitionSession
from coe.platform.bus.kafka.transactions import Transactions

_log = structlog.stdlib.get_logger(__name__)

_POLL_MS = 200
_FLUSH_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 10.0


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """`poll` returns records of partitions that are ready. `marks`: see PartitionSession."""

    def __init__(self, connection: Connection, admin: Admin, subscription: Subscription, *, marks: bool) -> None:
        self._connection = connection
        self._admin = admin
        self._subscription = subscription
        self._marks = marks
        self._consumer: AIOKafkaConsumer | None = None
        self._assignor = SharesAssignor(connection.client_id)
        self._failures = 0
        self._lag: asyncio.Task[None] | None = None
        self._stopping = False
        self._identity = Identity(-1, "")
        self.sessions: dict[TopicPartition, PartitionSession] = {}
        self._transactions = Transactions(subscription.group, connection, admin, self.sessions)

    @property
    def in_flight(self) -> int:
        return sum(session.in_flight for session in self.sessions.values())

    def session(self, topic: str, partition: int) -> PartitionSession | None:
        return self.sessions.get(TopicPartition(topic, partition))

    async def poll(self, room: int) -> list[tuple[PartitionSession, Record]]:
        """Returns up to `room` records to hand out, within 0.2 s. With no room, only keeps the membership alive.

        Backs off while the broker is unreachable. Raises InternalError if the transactions have ended, because records
        would never be committed.
        """
        self._transactions.check()
        try:
            consumer = self._consumer or await self._join()
            self._pause_or_resume(consumer, room)
            batches = await consumer.getmany(timeout_ms=_POLL_MS if room else 0, max_records=max(room, 1))
            self._failures = 0
        except Exception as error:
            await self._recover(error)
            return []
        found = []
        for tp, records in batches.items():
            if (session := self.sessions.get(tp)) is not None:
                found += [(session, as_record(record)) for record in records]
        return found

    async def stop(self) -> None:
        """Commits completed records and leaves the group. Other members get the rest."""
        self._stopping = True
        await _bounded(asyncio.gather(*(session.flush() for session in self.sessions.values())), _FLUSH_TIMEOUT_S)
        if self._lag is not None:
            self._lag.cancel()
            await asyncio.gather(self._lag, return_exceptions=True)
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await stop_consumer(consumer, _CLOSE_TIMEOUT_S)
        self._close(list(self.sessions))
        await self._transactions.stop()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Does nothing: most partitions come back with the next assignment, and the broker fences the others."""

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        consumer, assigned = self._consumer, set(assigned)
        if consumer is None:
            return
        before, self._identity = self._identity, _identity(consumer)
        self._close([tp for tp in self.sessions if tp not in assigned])
        if not self._identity.follows(before):
            for session in self.sessions.values():
                session.lose(kept=False)
                session.fenced = False
        for tp in assigned:
            consumer.pause(tp)
            # A stopping member takes no new partitions.
            if tp not in self.sessions and not self._stopping:
                self.sessions[tp] = PartitionSession(
                    tp,
                    self._subscription.group,
                    marks=self._marks,
                    on_ready=self._on_ready,
                    on_change=self._transactions.wake,
                )
        self._transactions.assigned(self._identity)

    def _on_ready(self, tp: TopicPartition, offset: int) -> None:
        if self._consumer is not None and tp in self._consumer.assignment():
            self._consumer.seek(tp, offset)
            self._consumer.resume(tp)

    def _pause_or_resume(self, consumer: AIOKafkaConsumer, room: int) -> None:
        paused = consumer.paused()
        for tp in consumer.assignment():
            session = self.sessions.get(tp)
            wanted = room > 0 and session is not None and session.ready and not session.ledger.full
            if wanted and tp in paused:
                consumer.resume(tp)
            elif not wanted and tp not in paused:
                consumer.pause(tp)

    async def _join(self) -> AIOKafkaConsumer:
        if self._lag is None and not self._stopping:
            self._lag = asyncio.create_task(watch_lag(self._admin, self._subscription), name="lag")
        consumer = closing(
            AIOKafkaConsumer(
                **self._connection.consumer(self._subscription.group),
                partition_assignment_strategy=(self._assignor,),
            )
        )
        # Set before start(), which joins the group and so calls the listener.
        self._consumer = consumer
        consumer.subscribe([self._subscription.topic], listener=self)
        try:
            await consumer.start()
        except BaseException:
            self._consumer = None
            await stop_consumer(consumer)
            raise
        return consumer

    async def _recover(self, error: Exception) -> None:
        """Backs off. After an error that is not retriable, also discards the consumer and its sessions."""
        self._failures += 1
        pause = backoff.delay_s(self._failures)
        expected = isinstance(error, KafkaError | OSError)
        _log.warning(
            "the topic can't be read",
            topic=self._subscription.topic,
            error=repr(error),
            retry_s=pause,
            exc_info=None if expected else error,
        )
        consumer = self._consumer
        if consumer is not None and not getattr(error, "retriable", False):
            self._consumer = None
            await stop_consumer(consumer, _CLOSE_TIMEOUT_S)
            self._close(list(self.sessions))
        await asyncio.sleep(pause)

    def _close(self, gone: Iterable[TopicPartition]) -> None:
        for tp in gone:
            self.sessions.pop(tp).close()


def _identity(consumer: AIOKafkaConsumer) -> Identity:
    return Identity(consumer._coordinator.generation, consumer._coordinator.member_id)


def as_record(record: ConsumerRecord) -> Record:
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value or b"",
        tuple(record.headers),
        record.timestamp,
    )


async def _bounded(work: Awaitable[object], timeout_s: float) -> None:
    """Runs a shutdown step and abandons it if it fails or takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            await work
    except Exception as error:
        _log.warning("a step of the shutdown timed out", error=repr(error))
