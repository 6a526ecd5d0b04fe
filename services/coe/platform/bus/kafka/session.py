"""An input partition assigned to this process: its ledger, records in flight, and completions to commit.

`transactions` commits its offsets together with those of the process's other partitions.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from coe.platform.bus.api import Record
from coe.platform.bus.ledger import OffsetLedger
from coe.platform.bus.messages import Message
from coe.platform.errors import CoEError
from coe.platform.telemetry import messaging

# Delay before hand-outs are committed on their own. A completion within it takes them along, so that quick work needs
# no extra transaction; a generation has hardly begun by then.
_MARK_DELAY_S = 0.05
# For this long after it was acquired, a partition may yield the record that crashed its previous owner before the
# hand-out was counted.
_NEW_S = 5.0


@dataclass(eq=False)
class Completion:
    """A completed record waiting for its transaction."""

    session: "PartitionSession"
    record: Record
    messages: list[Message]
    # Makes the replacement if the messages cannot be sent. None: they have already been replaced.
    instead: Callable[[CoEError], list[Message]] | None
    committed: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    # Its transaction has begun, so the result is known only when that ends.
    under_way: bool = False
    # One of its messages made a transaction fail. It gets the next one to itself, so that no others fail with it.
    suspect: bool = False


class PartitionSession:
    """Takes records and completes them in any order. Call `close` when the partition is gone.

    `on_ready(partition, offset)` is called whenever the session can take records, starting at `offset`. If nothing was
    ever committed that is 0, even if the first records have been deleted; the broker then determines the start.
    `on_change()` is called when there is something to commit. `marks`: also commit hand-outs, so that the next owner
    can count attempts.
    """

    def __init__(
        self,
        tp: TopicPartition,
        group: str,
        *,
        marks: bool,
        on_ready: Callable[[TopicPartition, int], None],
        on_change: Callable[[], None],
    ) -> None:
        self.tp = tp
        self.ledger = OffsetLedger()
        # The partition's previous owner can no longer write.
        self.fenced = False
        # The committed state has been read: records may be taken and committed.
        self.ready = False
        self.closed = False
        self.unmarked = False
        self.waiting: dict[int, Completion] = {}
        self._group = group
        self._marks = marks
        self._on_ready = on_ready
        self._on_change = on_change
        self._records: dict[int, Record] = {}
        self._marking: asyncio.TimerHandle | None = None
        self._new_until = 0.0
        # Hand-outs below this offset are committed; callers wait for some of the others.
        self._counted_until = 0
        self._counting: dict[int, asyncio.Future[None]] = {}
        # The ledger was full: later records were not taken and must be fetched again.
        self._behind = False
        # No other process has had the partition since it was last ready.
        self._kept = True

    @property
    def transactional_id(self) -> str:
        return f"{self._group}.{self.tp.topic}.{self.tp.partition}"

    @property
    def in_flight(self) -> int:
        return len(self._records)

    def take(self, record: Record) -> bool:
        """Hands out the record. Returns False to skip it: it is done, in flight, or will be fetched again."""
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
        """Whether this particular hand-out of the record is in flight here."""
        return self._records.get(record.offset) is record

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        """See ParallelConsumer.counted."""
        loop = asyncio.get_running_loop()
        if record.offset < self._counted_until or loop.time() >= self._new_until:
            return None
        return self._counting.setdefault(record.offset, loop.create_future())

    def complete(
        self, record: Record, messages: list[Message], instead: Callable[[CoEError], list[Message]]
    ) -> "asyncio.Future[bool] | None":
        """Queues the record for the next transaction. Returns None if the record is no longer in flight here.

        `instead` makes the replacement if these messages cannot be sent. The future's result is whether the record was
        committed. It belongs to the session: don't cancel it.
        """
        if not self.holds(record):
            return None
        completion = self.waiting.get(record.offset)
        if completion is None:
            completion = self.waiting[record.offset] = Completion(self, record, messages, instead)
            self._on_change()
        return completion.committed

    async def flush(self) -> None:
        """Waits until no completion is pending, or the session is closed."""
        await asyncio.gather(*(completion.committed for completion in self.waiting.values()))

    def close(self) -> None:
        """Drops everything in flight. Completions get False, or the result of the transaction they are in."""
        self.closed, self.ready = True, False
        self._cancel_marking()
        for offset in list(self._records):
            completion = self.waiting.get(offset)
            if completion is None or not completion.under_way:
                self.finish(offset, committed=False)

    def lose(self, *, kept: bool) -> None:
        """Requires the committed state to be read again. `kept`: no other process can have had the partition."""
        self.ready = False
        self._kept = self._kept and kept

    def acquired(self, offset: int | None, metadata: str) -> None:
        """Continues from the committed state.

        Records in flight here but done there were completed by an owner in between or, if there was none, by one of our
        own transactions whose result was lost.
        """
        committed = OffsetLedger(offset or 0, metadata)
        if self._records:
            for taken_over in self.ledger.reconcile(committed):
                self.finish(taken_over, committed=self._kept)
        else:
            self.ledger = committed
        self.ready, self._kept, self._behind = True, True, False
        self._new_until = asyncio.get_running_loop().time() + _NEW_S
        # Called in any case: records fetched but not taken in the meantime must be fetched again.
        self._on_ready(self.tp, self.ledger.position)
        if self._marks:
            self._mark()

    def marked(self) -> int:
        """Called when hand-outs are being committed. Returns the offset below which they are."""
        self.unmarked = False
        self._cancel_marking()
        return self.ledger.position

    def count(self, until: int) -> None:
        """Called once the hand-outs below this offset are committed."""
        self._counted_until = until
        for offset in [offset for offset in self._counting if offset < until]:
            self._counting.pop(offset).set_result(None)

    def resume(self) -> None:
        """Continues where a full ledger stopped it, if there is room again."""
        if self.ready and self._behind and not self.ledger.full:
            self._behind = False
            self._on_ready(self.tp, self.ledger.position)

    def finish(self, offset: int, *, committed: bool) -> float:
        """Ends a record's hand-out. Returns how long it was in flight, in seconds."""
        record = self._records.pop(offset, None)
        if self.ledger.holds(offset):
            self.ledger.complete(offset)
        seconds = messaging.end_record(record, None if committed else "revoked") if record is not None else 0.0
        if (counting := self._counting.pop(offset, None)) is not None:
            counting.set_result(None)
        completion = self.waiting.pop(offset, None)
        if completion is not None and not completion.committed.done():
            completion.committed.set_result(committed)
        return seconds

    def _cancel_marking(self) -> None:
        if self._marking is not None:
            self._marking.cancel()
            self._marking = None

    def _mark(self) -> None:
        self._marking = None
        self.unmarked = bool(self._records)
        self._on_change()
