"""The consumer for long work: hands out records in order, completes them in any order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from functools import partial
from types import TracebackType

from coe.platform.bus.api import Outcome, Record, Subscription
from coe.platform.bus.kafka.membership import Membership
from coe.platform.bus.kafka.session import PartitionSession
from coe.platform.bus.messages import messages, refused


class KafkaParallelConsumer:
    """Hands out records while iterated over and fewer than `max_in_flight` are in flight."""

    def __init__(self, membership: Membership, subscription: Subscription, source: str) -> None:
        self._membership = membership
        self._max_in_flight = subscription.max_in_flight
        self._source = source
        self._fetched: deque[tuple[PartitionSession, Record]] = deque()
        self._room = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        while True:
            room = self._max_in_flight - self._membership.in_flight
            if room <= 0:
                await self._wait_for_room()
                continue
            while self._fetched:
                session, record = self._fetched.popleft()
                if session.take(record):
                    return record
            self._fetched.extend(await self._membership.poll(room))

    async def complete(self, record: Record, outcome: Outcome) -> bool:
        session = self._session(record)
        if session is None:
            return False
        attempt = session.ledger.attempt(record.offset)
        out = messages(record, outcome, self._source, attempt)
        committed = session.complete(record, out, partial(refused, record, outcome, self._source, attempt))
        done = committed is not None and await asyncio.shield(committed)
        self._room.set()
        return done

    def attempt(self, record: Record) -> int:
        session = self._session(record)
        return session.ledger.attempt(record.offset) if session is not None else 0

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        session = self._session(record)
        return session.counted(record) if session is not None else None

    @property
    def partitions(self) -> Collection[int]:
        return [tp.partition for tp in self._membership.sessions]

    def revoked(self, record: Record) -> bool:
        return self._session(record) is None

    def _session(self, record: Record) -> PartitionSession | None:
        """The session of this particular hand-out of the record, or None if it is no longer in flight."""
        session = self._membership.session(record.topic, record.partition)
        return session if session is not None and session.holds(record) else None

    async def _wait_for_room(self) -> None:
        """Waits until a quarter of the room is free, rather than for single records. Keeps the membership alive."""
        low = self._max_in_flight - max(1, self._max_in_flight // 4)
        while self._membership.in_flight > low:
            self._room.clear()
            self._fetched.extend(await self._membership.poll(0))
            if self._membership.in_flight <= low:
                return
            try:
                async with asyncio.timeout(0.5):
                    await self._room.wait()
            except TimeoutError:
                continue


class KafkaParallelContext:
    """The consumer's context. It joins the group on the first iteration and leaves it on exit."""

    def __init__(self, membership: Membership, subscription: Subscription, source: str) -> None:
        self._membership = membership
        self._consumer = KafkaParallelConsumer(membership, subscription, source)

    async def __aenter__(self) -> KafkaParallelConsumer:
        return self._consumer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._membership.stop()
