"""A consumer's membership in a group: its partitions and the records in flight."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from coe.platform.bus.api import Outcome, Record, Subscription
from coe.platform.bus.ledger import OffsetLedger
from coe.platform.bus.memory.broker import MemoryBroker
from coe.platform.bus.messages import Message, messages
from coe.platform.bus.shares import shared_out
from coe.platform.telemetry import messaging


@dataclass(eq=False)
class Session:
    """A partition assigned to a member."""

    partition: int
    ledger: OffsetLedger
    records: dict[int, Record] = field(default_factory=dict)


class Membership:
    def __init__(self, broker: MemoryBroker, subscription: Subscription, source: str) -> None:
        self._broker = broker
        self._subscription = subscription
        self._source = source
        self._group = broker.group(subscription)
        self.sessions: dict[int, Session] = {}

    @property
    def partitions(self) -> Collection[int]:
        return self.sessions.keys()

    def join(self) -> None:
        self._group.members.append(self)
        self._rebalance()

    def leave(self) -> None:
        self._group.members.remove(self)
        self.assign([])
        self._rebalance()

    def assign(self, partitions: Sequence[int]) -> None:
        """Keeps the sessions of partitions it had. Records in flight in the others are lost to this member."""
        for partition in [known for known in self.sessions if known not in partitions]:
            for record in self.sessions.pop(partition).records.values():
                messaging.end_record(record, "revoked")
        for partition in partitions:
            if partition not in self.sessions:
                ledger = OffsetLedger(*self._group.committed.get(partition, (0, "")))
                self.sessions[partition] = Session(partition, ledger)

    def _rebalance(self) -> None:
        members = {str(number): member for number, member in enumerate(self._group.members)}
        if not members:
            return
        before = {partition: one for one, member in members.items() for partition in member.partitions}
        count = len(self._broker.partitions(self._subscription.topic))
        owners = shared_out(range(count), dict.fromkeys(members, ""), before)
        shares = {
            member: [partition for partition, owner in owners.items() if owner == one]
            for one, member in members.items()
        }
        # Revoke first, then assign: a new owner must start from what the old one has committed.
        for member, share in shares.items():
            member.assign([partition for partition in share if partition in member.partitions])
        for member, share in shares.items():
            member.assign(share)
        self._broker.notify()

    def take(self, limit: int) -> list[Record]:
        """Hands out the next records, up to `limit`."""
        taken: list[Record] = []
        for session in self.sessions.values():
            before = session.ledger.position
            log = self._broker.partitions(self._subscription.topic)[session.partition]
            for record in log[session.ledger.position :]:
                if len(taken) >= limit or session.ledger.full:
                    break
                if session.ledger.take(record.offset):
                    # A copy, to tell this hand-out from later ones of the same record.
                    own = Record(*record)
                    session.records[own.offset] = own
                    messaging.start_record(own, self._subscription.group)
                    taken.append(own)
            if session.ledger.position != before:
                self._commit(session)
        return taken

    def session(self, record: Record) -> Session | None:
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

    def _commit(self, session: Session) -> None:
        self._group.committed[session.partition] = (session.ledger.committed, session.ledger.metadata())
