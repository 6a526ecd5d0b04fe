"""One input partition in this process's hands: its ledger, what is in flight and what waits to be committed.

Its offsets are committed by `transactions`, together with those of the process's other partitions.
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

# What was handed out is committed after this, unless a completion has taken it along by then: quick work costs no
# transaction of its own, and a generation has hardly begun.
_MARK_DELAY_S = 0.05
# For so long a partition may give what ended its last owner before that was counted.
_NEW_S = 5.0


@dataclass(eq=False)
class Completion:
    """A record that ended, waiting for its transaction."""

    session: "PartitionSession"
    record: Record
    messages: list[Message]
    # What takes their place when they can't be sent. None: it has.
    instead: Callable[[CoEError], list[Message]] | None
    committed: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    # Its transaction has begun: what comes of it is known when that has ended.
    under_way: bool = False
    # A message of its failed a transaction: the next one is its own, so that it fails no others' again.
    suspect: bool = False


class PartitionSession:
    """Take records, complete them in any order. `close` when the partition is gone.

    `on_ready(partition, offset)` is called whenever the session can take records: from `offset`. Where nothing was ever
    committed that is 0, also when a topic's first records are gone: the broker then says where it begins.
    `on_change()`: when there is something to commit. `marks`: also commit what was handed out, so that a next owner
    counts attempts.
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
        # Whoever had the partition before can't write any more.
        self.fenced = False
        # What is committed is known: records may be taken and committed.
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
        # What was handed out below this offset is committed as such, and what of the rest is waited for.
        self._counted_until = 0
        self._counting: dict[int, asyncio.Future[None]] = {}
        # The ledger was full: what came since was not taken, and must be fetched again.
        self._behind = False
        # Nobody else had the partition since it was last ready.
        self._kept = True

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

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        """As ParallelConsumer's."""
        loop = asyncio.get_running_loop()
        if record.offset < self._counted_until or loop.time() >= self._new_until:
            return None
        return self._counting.setdefault(record.offset, loop.create_future())

    def complete(
        self, record: Record, messages: list[Message], instead: Callable[[CoEError], list[Message]]
    ) -> "asyncio.Future[bool] | None":
        """Publishes and commits soon; None when the record is not ours any more.

        `instead`: what to publish when these messages can't be sent.
        The future says whether it was committed. It belongs to the session: don't cancel it.
        """
        if not self.holds(record):
            return None
        completion = self.waiting.get(record.offset)
        if completion is None:
            completion = self.waiting[record.offset] = Completion(self, record, messages, instead)
            self._on_change()
        return completion.committed

    async def flush(self) -> None:
        """Returns when no completion waits any more, or the session is closed."""
        await asyncio.gather(*(completion.committed for completion in self.waiting.values()))

    def close(self) -> None:
        """Everything in flight is lost: its completions end with False, or as the transaction under way does."""
        self.closed, self.ready = True, False
        self._cancel_marking()
        for offset in list(self._records):
            completion = self.waiting.get(offset)
            if completion is None or not completion.under_way:
                self.finish(offset, committed=False)

    def lose(self, *, kept: bool) -> None:
        """What is committed has to be read again. `kept` False: somebody else may have had the partition meanwhile."""
        self.ready = False
        self._kept = self._kept and kept

    def acquired(self, offset: int | None, metadata: str) -> None:
        """Takes over from what is committed.

        What is in flight here and done there was done by whoever had the partition meanwhile, or else in a
        transaction of ours whose end we did not hear of.
        """
        committed = OffsetLedger(offset or 0, metadata)
        if self._records:
            for taken_over in self.ledger.reconcile(committed):
                self.finish(taken_over, committed=self._kept)
        else:
            self.ledger = committed
        self.ready, self._kept, self._behind = True, True, False
        self._new_until = asyncio.get_running_loop().time() + _NEW_S
        # In any case: what was fetched and not taken meanwhile must be fetched again.
        self._on_ready(self.tp, self.ledger.position)
        if self._marks:
            self._mark()

    def marked(self) -> int:
        """What was handed out, below the offset that it returns, is being committed."""
        self.unmarked = False
        self._cancel_marking()
        return self.ledger.position

    def count(self, until: int) -> None:
        """What was handed out below this offset is committed."""
        self._counted_until = until
        for offset in [offset for offset in self._counting if offset < until]:
            self._counting.pop(offset).set_result(None)

    def resume(self) -> None:
        """Goes on where the full ledger made it stop, once there is room."""
        if self.ready and self._behind and not self.ledger.full:
            self._behind = False
            self._on_ready(self.tp, self.ledger.position)

    def finish(self, offset: int, *, committed: bool) -> float:
        """Returns the seconds that the record was in hand."""
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
