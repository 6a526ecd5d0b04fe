"""When it is committed that a record of a partition that is new here was handed out."""

import pytest
from aiokafka import TopicPartition

from coe.platform import topics
from coe.platform.bus.api import Record
from coe.platform.bus.kafka import session as module
from coe.platform.bus.kafka.session import PartitionSession

TP = TopicPartition(topics.ASSIGNMENTS, 0)


def ready() -> PartitionSession:
    session = PartitionSession(TP, "g", marks=True, on_ready=lambda *_: None, on_change=lambda: None)
    session.acquired(None, "")
    return session


def taken(session: PartitionSession) -> Record:
    record = Record(TP.topic, TP.partition, session.ledger.position, b"k", b"v", (), 1)
    assert session.take(record)
    return record


async def test_a_commit_counts_what_was_handed_out_before_it_began() -> None:
    session = ready()
    first = taken(session)
    counted = session.counted(first)
    until = session.marked()
    late = session.counted(taken(session))
    assert counted is not None
    assert late is not None
    session.count(until)
    assert counted.done()
    assert not late.done()
    assert session.counted(first) is None
    session.count(session.marked())
    assert late.done()


async def test_nobody_waits_for_the_count_of_what_is_gone() -> None:
    session = ready()
    counted = session.counted(taken(session))
    assert counted is not None
    session.close()
    assert counted.done()


async def test_a_partition_that_has_been_here_for_a_while_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NEW_S", 0.0)
    session = ready()
    assert session.counted(taken(session)) is None
