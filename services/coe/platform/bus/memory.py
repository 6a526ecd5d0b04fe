"""The event bus in memory, for tests: the same contract as on Kafka, within one event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from zlib import crc32

from coe.platform.bus.api import BatchHandler, Outcome, Outgoing, Record, Subscription
from coe.platform.bus.handle import handle
from coe.platform.bus.headers import Headers, cloud_event
from coe.platform.bus.ledger import OffsetLedger
from coe.platform.bus.messages import Message, messages
from coe.platform.telemetry import messaging

DEFAULT_PARTITIONS = 4


class MemoryBroker:
    """Topics and groups that the buses of several "processes" share. An unknown topic is made when it is first used."""

    def __init__(self) -> None:
        self._topics: dict[str, list[list[Record]]] = {}
        self._groups: dict[tuple[str, str], _Group] = {}
        self._changed = asyncio.Event()

    def create(self, topic: str, partitions: int) -> None:
        self._topics.setdefault(topic, [[] for _ in range(partitions)])

    def partitions(self, topic: str) -> list[list[Record]]:
        """The records of each partition of the topic, oldest first."""
        self.create(topic, DEFAULT_PARTITIONS)
        return self._topics[topic]

    def append(self, message: Message) -> None:
        logs = self.partitions(message.topic)
        partition = message.partition if message.partition is not None else crc32(message.key or b"") % len(logs)
        log, now_ms = logs[partition], time.time_ns() // 1_000_000
        headers = tuple(message.headers)
        log.append(Record(message.topic, partition, len(log), message.key, message.value, headers, now_ms))
        self.notify()

    def group(self, subscription: Subscription) -> "_Group":
        return self._groups.setdefault((subscription.group, subscription.topic), _Group())

    def notify(self) -> None:
        """Wakes everybody who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        await self._changed.wait()


@dataclass
class _Group:
    members: list["_Membership"] = field(default_factory=list)
    committed: dict[int, tuple[int, str]] = field(default_factory=dict)


@dataclass(eq=False)
class _Session:
    """One partition in a member's hands."""

    partition: int
    ledger: OffsetLedger
    records: dict[int, Record] = field(default_factory=dict)


class _Membership:
    def __init__(self, broker: MemoryBroker, subscription: Subscription, source: str) -> None:
        self._broker = broker
        self._subscription = subscription
        self._source = source
        self._group = broker.group(subscription)
        self.sessions: dict[int, _Session] = {}

    def join(self) -> None:
        self._group.members.append(self)
        self._rebalance()

    def leave(self) -> None:
        self._group.members.remove(self)
        self.assign([])
        self._rebalance()

    def assign(self, partitions: Sequence[int]) -> None:
        """Keeps sessions of partitions that it had; what is in flight in the others is lost to it."""
        for partition in [known for known in self.sessions if known not in partitions]:
            for record in self.sessions.pop(partition).records.values():
                messaging.end_record(record, "revoked")
        for partition in partitions:
            if partition not in self.sessions:
                ledger = OffsetLedger(*self._group.committed.get(partition, (0, "")))
                self.sessions[partition] = _Session(partition, ledger)

    def _rebalance(self) -> None:
        members = self._group.members
        count = len(self._broker.partitions(self._subscription.topic))
        shares = {member: [one for one in range(count) if members[one % len(members)] is member] for member in members}
        # First take away, then give: a new owner starts from what the old one has committed.
        for member, share in shares.items():
            member.assign([partition for partition in share if partition in member.sessions])
        for member, share in shares.items():
            member.assign(share)
        self._broker.notify()

    def take(self, limit: int) -> list[Record]:
        """The next records that may be handed out, up to `limit`."""
        taken: list[Record] = []
        for session in self.sessions.values():
            log = self._broker.partitions(self._subscription.topic)[session.partition]
            for record in log[session.ledger.position :]:
                if len(taken) >= limit or session.ledger.full:
                    break
                if session.ledger.take(record.offset):
                    # A hand-out of its own: a later one of the same record is another object.
                    own = Record(*(getattr(record, name) for name in Record.__slots__))
                    session.records[own.offset] = own
                    messaging.start_record(own, self._subscription.group)
                    taken.append(own)
            self._commit(session)
        return taken

    def session(self, record: Record) -> _Session | None:
        session = self.sessions.get(record.partition)
        return session if session is not None and session.records.get(record.offset) is record else None

    @property
    def in_flight(self) -> int:
        return sum(len(session.records) for session in self.sessions.values())

    def complete(self, record: Record, outcome: Outcome) -> bool:
        session = self.session(record)
        if session is None:
            return False
        attempt = session.ledger.attempt(record.offset)
        span = messaging.record_span(record)
        for message in messages(record, outcome, self._source, attempt):
            send = messaging.start_send(message.topic, (message.key or b"").decode("utf-8", "replace"), span)
            headers = message.headers + messaging.trace_headers(send)
            send.end()
            self._broker.append(Message(message.topic, message.key, message.value, headers, message.partition))
        session.ledger.complete(record.offset)
        del session.records[record.offset]
        messaging.end_record(record)
        self._commit(session)
        self._broker.notify()
        return True

    def _commit(self, session: _Session) -> None:
        self._group.committed[session.partition] = (session.ledger.committed, session.ledger.metadata())


class MemoryBus:
    """One "process" on a broker."""

    def __init__(self, broker: MemoryBroker | None = None, *, source: str = "coe/test") -> None:
        self.broker = broker or MemoryBroker()
        self._source = source

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    @property
    def publisher(self) -> "MemoryBus":
        return self

    async def publish(self, outgoing: Outgoing) -> None:
        span = messaging.start_send(outgoing.topic, outgoing.key)
        self._append(outgoing, messaging.trace_headers(span))
        span.end()

    async def post(self, outgoing: Outgoing) -> None:
        self._append(outgoing, messaging.trace_headers())

    def _append(self, outgoing: Outgoing, trace: Headers) -> None:
        headers = cloud_event(outgoing, self._source, time.time_ns() // 1_000_000) + trace
        value = outgoing.message.SerializeToString()
        self.broker.append(Message(outgoing.topic, outgoing.key.encode(), value, headers, outgoing.partition))

    async def process(self, subscription: Subscription, handler: BatchHandler) -> None:
        membership = _Membership(self.broker, subscription, self._source)
        membership.join()
        try:
            while True:
                records = membership.take(subscription.max_batch)
                if not records:
                    await self.broker.change()
                    continue
                for record, outcome in zip(records, await handle(handler, records), strict=True):
                    membership.complete(record, outcome)
        finally:
            membership.leave()

    def parallel(self, subscription: Subscription) -> "MemoryParallel":
        return MemoryParallel(self.broker, subscription, self._source)

    def tail(self, topics: Sequence[str]) -> "MemoryTail":
        return MemoryTail(self.broker, topics)

    async def healthy(self) -> bool:
        return True


class MemoryParallel:
    """Consumer and its context in one."""

    def __init__(self, broker: MemoryBroker, subscription: Subscription, source: str) -> None:
        self._broker = broker
        self._max_in_flight = subscription.max_in_flight
        self._membership = _Membership(broker, subscription, source)

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

    def revoked(self, record: Record) -> bool:
        return self._membership.session(record) is None


class MemoryTail:
    """Follows topics from their ends at entry."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._topics = tuple(topics)

    async def __aenter__(self) -> AsyncIterator[Record]:
        ends = {topic: [len(log) for log in self._broker.partitions(topic)] for topic in self._topics}
        return self._records(ends)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

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
