"""In-memory consumers: completion in any order, and tailing."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from types import TracebackType

from coe.platform.bus.api import Outcome, Record, Subscription
from coe.platform.bus.memory.broker import MemoryBroker
from coe.platform.bus.memory.membership import Membership


class MemoryParallel:
    """A parallel consumer that is also its own context."""

    def __init__(self, broker: MemoryBroker, subscription: Subscription, source: str) -> None:
        self._broker = broker
        self._max_in_flight = subscription.max_in_flight
        self._membership = Membership(broker, subscription, source)

    async def __aenter__(self) -> "MemoryParallel":
        self._membership.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._membership.leave()

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        while True:
            if self._membership.in_flight < self._max_in_flight and (taken := self._membership.take(1)):
                return taken[0]
            await self._broker.change()

    async def complete(self, record: Record, outcome: Outcome) -> bool:
        await asyncio.sleep(0)
        return self._membership.complete(record, outcome)

    def attempt(self, record: Record) -> int:
        session = self._membership.session(record)
        return session.ledger.attempt(record.offset) if session is not None else 0

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        return None

    @property
    def partitions(self) -> Collection[int]:
        return self._membership.partitions

    def revoked(self, record: Record) -> bool:
        return self._membership.session(record) is None


class MemoryTail:
    """Follows topics from the ends they had on entry."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._topics = tuple(topics)

    async def __aenter__(self) -> AsyncIterator[Record]:
        ends = {topic: [len(log) for log in self._broker.partitions(topic)] for topic in self._topics}
        return self._records(ends)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing."""

    async def _records(self, ends: dict[str, list[int]]) -> AsyncIterator[Record]:
        while True:
            fresh = False
            for topic, offsets in ends.items():
                for partition, log in enumerate(self._broker.partitions(topic)):
                    while offsets[partition] < len(log):
                        offsets[partition] += 1
                        fresh = True
                        yield log[offsets[partition] - 1]
            if not fresh:
                await self._broker.change()
