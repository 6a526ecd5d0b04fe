"""What a consumer has read and its session did not take is read again."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from coe.platform.bus.api import Outcome, Record, Subscription
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.membership import Membership
from coe.platform.bus.kafka.process import process
from coe.platform.errors import InternalError

TP = TopicPartition("coe.prompts.v1", 5)
SUBSCRIPTION = Subscription(TP.topic, "g")


class Consumer:
    """As aiokafka's: what it gives moves its position, whether or not anybody takes it."""

    def __init__(self) -> None:
        self.log: list[ConsumerRecord] = []
        self.position = 0
        self.waits = asyncio.Event()
        self.goes_on = asyncio.Event()
        self._paused: set[TopicPartition] = set()
        self._coordinator = SimpleNamespace(generation=1, member_id="m")

    def assignment(self) -> set[TopicPartition]:
        return {TP}

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, tp: TopicPartition) -> None:
        self._paused.add(tp)

    def resume(self, tp: TopicPartition) -> None:
        self._paused.discard(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.position = offset

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        self.waits.set()
        await self.goes_on.wait()
        if TP in self._paused:
            return {}
        found = self.log[self.position :]
        self.position += len(found)
        return {TP: found}


@pytest.mark.parametrize("committed", [None, 1])
async def test_a_record_that_came_while_transactions_failed_comes_again(
    monkeypatch: pytest.MonkeyPatch, committed: int | None
) -> None:
    connection = Connection("127.0.0.1:1", "coe-test")
    membership = Membership(connection, cast("Admin", None), SUBSCRIPTION, marks=False)
    monkeypatch.setattr(membership._transactions, "assigned", lambda _: None)
    membership._consumer = consumer = Consumer()
    consumer.log = [
        ConsumerRecord(TP.topic, TP.partition, offset, 0, 0, b"k", b"v", None, 1, 1, ())
        for offset in range(committed or 0)
    ]
    membership.on_partitions_assigned([TP])
    session = membership.sessions[TP]
    session.acquired(committed, "")

    polling = asyncio.create_task(membership.poll(64))
    await consumer.waits.wait()
    session.lose(kept=True)
    first = committed or 0
    consumer.log.append(ConsumerRecord(TP.topic, TP.partition, first, 0, 0, b"k", b"v", None, 1, 1, ()))
    # The fetch that is under way asks for the partition still.
    consumer.resume(TP)
    consumer.goes_on.set()
    assert [session.take(record) for _, record in await polling] == [False]

    session.acquired(committed, "")
    assert [record.offset for session, record in await membership.poll(64) if session.take(record)] == [first]
    membership._consumer = None
    await membership.stop()


@pytest.fixture
async def ended() -> Membership:
    """Whose transactions have ended."""

    async def over() -> None:
        raise ZeroDivisionError

    membership = Membership(Connection("127.0.0.1:1", "coe-test"), cast("Admin", None), SUBSCRIPTION, marks=False)
    membership._transactions._task = task = asyncio.create_task(over())
    await asyncio.wait({task})
    return membership


async def test_nothing_is_handed_out_once_nothing_is_committed_any_more(ended: Membership) -> None:
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        await ended.poll(1)
    await ended.stop()


async def test_who_consumes_hears_that_nothing_is_committed_any_more(ended: Membership) -> None:
    async def handler(records: Sequence[Record]) -> Sequence[Outcome]:
        return []

    with pytest.raises(InternalError, match="ZeroDivisionError"):
        await process(ended, SUBSCRIPTION, handler, "coe/test")
