"""Transactions that fail: what goes on, and what ends with an error instead of being tried for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from opentelemetry.trace import Span
from structlog.testing import capture_logs

from coe._proto import events_pb2
from coe.platform import backoff, topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.kafka import transactions
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.generations import Identity
from coe.platform.bus.kafka.producers import TransactionalProducer, is_refusal
from coe.platform.bus.kafka.session import PartitionSession
from coe.platform.bus.kafka.transactions import Transactions
from coe.platform.bus.messages import Message, messages, refused
from coe.platform.errors import ArtifactError, InternalError

TP = TopicPartition(topics.ROUTED, 0)


class Broker:
    """What producers and an admin client of one process ask. `refuses` raises for a message that it does not take."""

    def __init__(self) -> None:
        self.refuses: Callable[[Message], None] = lambda _: None
        self.refuses_when_sent: Callable[[Message], None] = lambda _: None
        self.failures_to_connect: list[Exception] = []
        self.log: list[Message] = []
        self.committed_offset = 0

    async def fence(self, transactional_ids: Sequence[str]) -> None: ...

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, tuple[int | None, str]]:
        return dict.fromkeys(partitions, (self.committed_offset, ""))


class Producer:
    """Stands in for TransactionalProducer."""

    def __init__(self, broker: Broker, connection: Connection, transactional_id: str) -> None:
        if broker.failures_to_connect:
            raise broker.failures_to_connect.pop()
        self._broker = broker
        self._open: list[Message] = []
        self._offset = broker.committed_offset

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def begin_transaction(self) -> None:
        self._open = []

    async def send_message(self, message: Message, parent: Span) -> "asyncio.Future[object]":
        self._broker.refuses(message)
        delivery = asyncio.get_running_loop().create_future()
        self._open.append(message)
        try:
            self._broker.refuses_when_sent(message)
            delivery.set_result(None)
        except Exception as error:
            delivery.set_exception(error)
        return delivery

    async def send_offsets(
        self, offsets: Mapping[TopicPartition, tuple[int, str]], group: str, identity: Identity
    ) -> None:
        self._offset = offsets[TP][0]

    async def commit_transaction(self) -> None:
        self._broker.log += self._open
        self._broker.committed_offset = self._offset


class World:
    def __init__(self) -> None:
        self.broker = Broker()
        self.sessions: dict[TopicPartition, PartitionSession] = {}
        self.transactions = Transactions("g", cast("Connection", None), cast("Admin", self.broker), self.sessions)
        self.session = self.sessions[TP] = PartitionSession(
            TP, "g", marks=False, on_ready=lambda *_: None, on_change=self.transactions.wake
        )

    def assigned(self) -> None:
        self.transactions.assigned(Identity(1, "m"))

    async def ready(self) -> None:
        await until(lambda: self.session.ready)

    def complete(self, *names: str) -> "list[asyncio.Future[bool]]":
        ended = []
        for name in names:
            offset = self.session.ledger.position
            record = Record(TP.topic, TP.partition, offset, name.encode(), b"body", (), 1)
            assert self.session.take(record)
            assigned = events_pb2.PromptAssigned(prompt=events_pb2.PromptSubmitted(request_id=name))
            outcome = Outcome(publish=(Outgoing(topics.ASSIGNMENTS, name, assigned),))
            committed = self.session.complete(
                record, messages(record, outcome, "coe/test", 0), partial(refused, record, outcome, "coe/test", 0)
            )
            assert committed is not None
            ended.append(committed)
        return ended

    def published(self, topic: str) -> list[str]:
        return sorted((message.key or b"").decode() for message in self.broker.log if message.topic == topic)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (the conditions are of many kinds)
            await asyncio.sleep(0.005)


async def all_of(ended: "Collection[asyncio.Future[bool]]") -> list[bool]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*ended)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async def stop(_: object) -> None: ...

    world = World()
    monkeypatch.setattr(transactions, "TransactionalProducer", partial(Producer, world.broker))
    monkeypatch.setattr(transactions, "stop_producer", stop)
    monkeypatch.setattr(backoff, "delay_s", lambda _: 0.0)
    yield world
    await world.transactions.stop()


async def test_a_certificate_that_can_not_be_read_for_a_moment_costs_a_pause(world: World) -> None:
    world.broker.failures_to_connect = [ArtifactError("the key is not the certificate's")] * 3
    world.assigned()
    await world.ready()
    assert await all_of(world.complete("a")) == [True]


async def test_a_failure_before_the_first_transaction_costs_a_pause_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the user may not write under the transactional id."""
    monkeypatch.setattr(backoff, "delay_s", lambda _: 3600.0)
    failures = world.broker.failures_to_connect = [TransactionalIdAuthorizationFailed() for _ in range(50)]
    world.assigned()
    await until(lambda: len(failures) < 50)
    for _ in range(500):
        await asyncio.sleep(0)
    assert len(failures) == 49
    # Another generation may be luckier.
    world.transactions.assigned(Identity(2, "m"))
    await until(lambda: len(failures) < 49)


async def test_transactions_that_fail_one_after_the_other_pause_ever_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the user may not write the topic: a producer starts, and is refused with its first message."""
    failed: list[int] = []

    def delay_s(failures: int) -> float:
        failed.append(failures)
        return 0.0

    def refuses(_: Message) -> None:
        raise TopicAuthorizationFailedError

    monkeypatch.setattr(backoff, "delay_s", delay_s)
    world.assigned()
    for name in "ab":
        await world.ready()
        world.broker.refuses = refuses
        ended = world.complete(name)
        await until(lambda: len(failed) >= 3)
        world.broker.refuses = lambda _: None
        assert await all_of(ended) == [True]
        assert failed == list(range(1, len(failed) + 1))
        failed.clear()


async def test_transactions_that_end_by_themselves_are_not_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(transactions, "stop_producer", fails)
    world.broker.failures_to_connect = [ArtifactError("no")]
    world.assigned()
    await world.ready()
    world.transactions.check()
    world.sessions.clear()
    world.transactions.wake()
    task = world.transactions._task
    assert task is not None
    await asyncio.wait({task})
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        world.transactions.check()


def no_assignment_of(name: str, error: Exception) -> Callable[[Message], None]:
    def refuses(message: Message) -> None:
        if message.topic == topics.ASSIGNMENTS and message.key == name.encode():
            raise error

    return refuses


@pytest.mark.parametrize("hears_at_once", [True, False])
async def test_a_message_that_nobody_takes_ends_its_prompt_alone(world: World, hears_at_once: bool) -> None:
    error = AssertionError("Unrecognized partition") if hears_at_once else MessageSizeTooLargeError()
    refuses = no_assignment_of("b", error)
    if hears_at_once:
        world.broker.refuses = refuses
    else:
        world.broker.refuses_when_sent = refuses
    world.assigned()
    await world.ready()
    assert await all_of(world.complete("a", "b", "c")) == [True] * 3
    assert world.published(topics.ASSIGNMENTS) == ["a", "c"]
    assert world.published(topics.COMPLETIONS) == world.published(topics.DEAD_LETTER) == ["b"]
    assert world.broker.committed_offset == 3


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MessageSizeTooLargeError(), True),
        (OverflowError(), True),
        (UnicodeEncodeError("utf-8", "", 0, 1, "no"), True),
        (KafkaTimeoutError(), False),
        (ProducerFenced(), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (asyncio.CancelledError(), False),
        (None, False),
    ],
)
def test_what_the_broker_or_the_network_does_is_no_fault_of_a_message(
    error: BaseException | None, refused: bool
) -> None:
    assert is_refusal(error) is refused


async def test_a_fault_that_passes_costs_no_prompt_its_answer(world: World) -> None:
    left = [AssertionError("a fault")]

    def once(message: Message) -> None:
        if left:
            raise left.pop()

    world.broker.refuses = once
    world.assigned()
    await world.ready()
    assert await all_of(world.complete("a", "b")) == [True, True]
    assert world.published(topics.ASSIGNMENTS) == ["a", "b"]


async def test_what_can_not_even_be_refused_holds_up_no_other(world: World) -> None:
    refused = 0

    def refuses(message: Message) -> None:
        nonlocal refused
        if message.key == b"b":
            refused += 1
            raise MessageSizeTooLargeError

    world.broker.refuses = refuses
    world.assigned()
    await world.ready()
    with capture_logs() as logs:
        a, b, c = world.complete("a", "b", "c")
        assert await all_of([a, c]) == [True, True]
        await until(lambda: world.session.ready)
        assert await all_of(world.complete("d")) == [True]
        # Its error is told of once, however often it is tried.
        await until(lambda: refused > 5)
    assert [line["request_id"] for line in logs if line["event"] == "a prompt ended with an error"] == ["b"]
    assert not b.done()
    assert world.broker.committed_offset == 1


@pytest.mark.parametrize(("asked", "sent"), [(1, 1), (None, 0), (9, 0), (-1, 0)])
async def test_a_partition_that_the_topic_has_not_counts_as_none(asked: int | None, sent: int) -> None:
    producer = TransactionalProducer(Connection("127.0.0.1:1", "coe-test"), "t")
    producer._metadata = SimpleNamespace(
        partitions_for_topic=lambda _: {0, 1}, available_partitions_for_topic=lambda _: {0, 1}
    )
    producer._partitioner = lambda key, known, available: 0
    assert producer._partition("t", asked, b"k", b"v", b"k", b"v") == sent
    producer._closed = True
