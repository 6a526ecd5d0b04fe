"""One input partition in this process's hands: its ledger and its transactional producer.

Why a producer per input partition: aiokafka's TxnOffsetCommit does not carry the consumer's generation, so the broker
can't tell a zombie's commit by the group. It can by the producer's epoch: the transactional id is the partition's, a
new owner's first act is to raise the epoch (which also ends the old owner's open transaction), and only then does it
read the committed offset. Whatever the old owner tries after that fails.

So a session needs no goodbye to be safe, and one that is kept over a rebalance may simply go on: had somebody else
owned the partition in between, its next transaction is fenced, and it starts over from what is committed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from coe.platform import backoff
from coe.platform.bus.api import Record
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.client import closing, stop_producer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.producers import send
from coe.platform.bus.ledger import OffsetLedger
from coe.platform.bus.messages import Message
from coe.platform.telemetry import messaging

_log = structlog.stdlib.get_logger(__name__)

# The broker ends a transaction of a process that hangs after this; readers of what it wrote wait no longer.
_TRANSACTION_TIMEOUT_MS = 20_000
_COMMIT_TIMEOUT_S = 15.0
_RETRY_MS = 20
# Least time between the beginnings of two transactions. Begun sooner, the next would only be refused and tried again
# (see _RETRY_MS); what completes meanwhile comes along. A transaction alone waits for nothing.
_PACE_S = 0.02
# What was handed out is committed after this, unless a completion has taken it along by then: quick work costs no
# transaction of its own, and a generation has hardly begun.
_MARK_DELAY_S = 0.05
# A consumer that was thrown out of its group learns of it with its next heartbeat. Don't fight the new owner before.
_FENCED_PAUSE_S = 2.0
_MAX_PER_TRANSACTION = 512


@dataclass(eq=False)
class Completion:
    """A record that ended, waiting for its transaction."""

    record: Record
    messages: list[Message]
    committed: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PartitionSession:
    """Take records, complete them in any order. `close` when the partition is gone.

    `on_ready(partition, offset)` is called whenever the session can take records: from `offset`, None being the start.
    `marks`: also commit what was handed out, so that a next owner counts attempts.
    """

    def __init__(
        self,
        tp: TopicPartition,
        group: str,
        connection: Connection,
        admin: Admin,
        *,
        marks: bool,
        on_ready: Callable[[TopicPartition, int | None], None],
    ) -> None:
        self.tp = tp
        self.ready = False
        self.ledger = OffsetLedger()
        self._group = group
        self._connection = connection
        self._admin = admin
        self._marks = marks
        self._on_ready = on_ready
        self._records: dict[int, Record] = {}
        self._waiting: dict[int, Completion] = {}
        self._unmarked = False
        self._marking: asyncio.TimerHandle | None = None
        # The ledger was full: what came since was not taken, and must be fetched again.
        self._behind = False
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"session {tp}")

    @property
    def transactional_id(self) -> str:
        return f"{self._group}.{self.tp.topic}.{self.tp.partition}"

    @property
    def in_flight(self) -> int:
        return len(self._records)

    def take(self, record: Record) -> bool:
        """False: skip this record, it is done or in flight."""
        if not self.ready or self._behind:
            return False
        if self.ledger.full:
            self._behind = True
            return False
        if not self.ledger.take(record.offset):
            return False
        self._records[record.offset] = record
        messaging.start_record(record, self._group)
        if self._marks and self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(_MARK_DELAY_S, self._mark)
        return True

    def holds(self, record: Record) -> bool:
        """Whether this very hand-out of the record is in flight here."""
        return self._records.get(record.offset) is record

    def complete(self, record: Record, messages: list[Message]) -> "asyncio.Future[bool] | None":
        """Publishes and commits soon; None when the record is not ours any more.

        The future says whether it was committed. It belongs to the session: don't cancel it.
        """
        if not self.holds(record):
            return None
        completion = self._waiting.get(record.offset)
        if completion is None:
            completion = self._waiting[record.offset] = Completion(record, messages)
            self._wake.set()
        return completion.committed

    async def flush(self) -> None:
        """Returns when no completion waits any more, or the session is closed."""
        await asyncio.gather(*(completion.committed for completion in self._waiting.values()))

    async def close(self) -> None:
        """Everything in flight is lost: its completions end with False."""
        self.ready = False
        self._cancel_marking()
        self._task.cancel()
        for offset in list(self._records):
            self._finish(offset, committed=False)
        await asyncio.gather(self._task, return_exceptions=True)

    def _cancel_marking(self) -> None:
        if self._marking is not None:
            self._marking.cancel()
            self._marking = None

    def _mark(self) -> None:
        self._marking = None
        self._unmarked = bool(self._records)
        self._wake.set()

    async def _run(self) -> None:
        failures, fenced = 0, False
        while True:
            producer = closing(
                AIOKafkaProducer(
                    **self._connection.producer(),
                    transactional_id=self.transactional_id,
                    transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
                    # While the markers of the last transaction are being written the broker refuses the next one.
                    retry_backoff_ms=_RETRY_MS,
                )
            )
            try:
                await self._acquire(producer, fenced)
                failures, fenced = 0, False
                await self._serve(producer)
            except ProducerFenced:
                _log.info("another process owned the partition", partition=str(self.tp), group=self._group)
                pause, fenced = _FENCED_PAUSE_S, True
            except Exception as error:
                # Also what is no KafkaError: aiokafka's state machine asserts, and a partition must not fall silent.
                failures += 1
                pause = backoff.delay_s(failures)
                expected = isinstance(error, KafkaError | TimeoutError | OSError)
                _log.warning(
                    "a partition's transactions failed",
                    partition=str(self.tp),
                    error=repr(error),
                    exc_info=None if expected else error,
                )
            finally:
                self.ready = False
                await stop_producer(producer)
            await asyncio.sleep(pause)

    async def _acquire(self, producer: AIOKafkaProducer, fenced: bool) -> None:
        """Fences the former owner, then takes over from what is committed.

        What is in flight here and done there was done by the owner that fenced us, or else in a transaction of ours
        whose end we did not hear of.
        """
        async with asyncio.timeout(_COMMIT_TIMEOUT_S):
            await producer.start()
            offset, metadata = await self._admin.committed(self._group, self.tp)
        committed = OffsetLedger(offset or 0, metadata)
        if self._records:
            for taken_over in self.ledger.reconcile(committed):
                self._finish(taken_over, committed=not fenced)
        else:
            self.ledger = committed
        self.ready, self._behind = True, False
        self._on_ready(self.tp, self.ledger.position if self._records else offset)
        if self._marks:
            self._mark()
        self._wake.set()

    async def _serve(self, producer: AIOKafkaProducer) -> None:
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting or self._unmarked:
                await asyncio.sleep(next_at - loop.time())
                next_at = loop.time() + _PACE_S
                batch = list(islice(self._waiting.values(), _MAX_PER_TRANSACTION))
                self._unmarked = False
                self._cancel_marking()
                await self._commit(producer, batch)
                longest = max([self._finish(one.record.offset, committed=True) for one in batch], default=None)
                if longest is not None:
                    messaging.batch_done(self.tp.topic, self._group, longest)
                if self._behind and not self.ledger.full:
                    self._behind = False
                    self._on_ready(self.tp, self.ledger.position)

    async def _commit(self, producer: AIOKafkaProducer, batch: list[Completion]) -> None:
        """One transaction. After an error, whether it is committed is not known."""
        ended = [completion.record.offset for completion in batch]
        async with asyncio.timeout(_COMMIT_TIMEOUT_S):
            await producer.begin_transaction()
            sent = []
            for completion in batch:
                span = messaging.record_span(completion.record)
                for message in completion.messages:
                    sent.append(await send(producer, message, span))
            await producer.send_offsets_to_transaction({self.tp: self.ledger.after(ended)}, self._group)
            # Before the commit: aiokafka would commit without a message that the broker refused.
            await asyncio.gather(*sent)
            await producer.commit_transaction()

    def _finish(self, offset: int, *, committed: bool) -> float:
        """Returns the seconds that the record was in hand."""
        record = self._records.pop(offset, None)
        if self.ledger.holds(offset):
            self.ledger.complete(offset)
        seconds = messaging.end_record(record, None if committed else "revoked") if record is not None else 0.0
        completion = self._waiting.pop(offset, None)
        if completion is not None and not completion.committed.done():
            completion.committed.set_result(committed)
        return seconds
