"""A transactional producer whose offset commits carry the group's generation."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender, TxnOffsetCommitHandler
from aiokafka.producer.transaction_manager import TransactionManager
from opentelemetry.trace import Span

from coe.platform.bus.kafka.client import closing, heard
from coe.platform.bus.kafka.connection import TRANSACTION_TIMEOUT_MS, Connection
from coe.platform.bus.kafka.generations import CommitOffsets, Identity, OffsetsCommitted
from coe.platform.bus.messages import Message
from coe.platform.telemetry import messaging

EXPELLED = (IllegalGenerationError, UnknownMemberIdError)
"""What a commit of offsets raises when the group has gone on without this member."""

_RETRY_MS = 20


def is_refusal(error: BaseException | None) -> bool:
    """Whether the error means that a message will never be accepted by aiokafka or the broker.

    That is any error other than those of brokers, connections and transactions.
    """
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return True
    return isinstance(error, Exception) and not isinstance(error, KafkaError | OSError)


class _Handler(TxnOffsetCommitHandler):  # type: ignore[misc]
    def create_request(self) -> CommitOffsets:
        manager = self._sender._txn_manager
        producer = (manager.producer_id, manager.producer_epoch)
        return CommitOffsets(manager.transactional_id, producer, self._group_id, self._sender._identity, self._offsets)

    def handle_response(self, response: OffsetsCommitted) -> float | None:
        # In the form of version 0, without tags.
        response.errors = [(topic, [one[:2] for one in partitions]) for topic, partitions, _ in response.errors]
        for _, partitions in response.errors:
            for _, code in partitions:
                if (error := for_code(code)) in EXPELLED:
                    _, _, waiter = self._sender._txn_manager._pending_txn_offsets.popleft()
                    waiter.set_exception(error())
                    return None
        pause: float | None = super().handle_response(response)
        return pause


class _Sender(Sender):  # type: ignore[misc]
    _identity: Identity

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        await _Handler(self, offsets, group_id).do(await self._find_coordinator(CoordinationType.GROUP, group_id))


class _Manager(TransactionManager):  # type: ignore[misc]
    """Marks the errors of a failed transaction's other steps as retrieved: its caller awaits only the first to fail."""

    def error_transaction(self, exc: Exception) -> None:
        offsets = [future for _, _, future in self._pending_txn_offsets]
        super().error_transaction(exc)
        self._told(offsets)

    def fatal_error(self, exc: Exception) -> None:
        offsets = [future for _, _, future in self._pending_txn_offsets]
        super().fatal_error(exc)
        self._told(offsets)

    def _told(self, offsets: "list[asyncio.Future[None]]") -> None:
        for future in (*offsets, self._transaction_waiter):
            heard(future)


class _Accumulator(MessageAccumulator):  # type: ignore[misc]
    """Marks the errors of batches' drain waiters as retrieved: usually nothing awaits them."""

    def fail_all(self, exception: BaseException) -> None:
        waiting = [batch._drain_waiter for batches in self._batches.values() for batch in batches]
        super().fail_all(exception)
        for waiter in waiting:
            heard(waiter)


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer whose start fences the previous producer of its transactional id and ends its open transaction."""

    def __init__(self, connection: Connection, transactional_id: str) -> None:
        super().__init__(
            **connection.producer(),
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            # The broker refuses a transaction while it is still writing the markers of the last one.
            retry_backoff_ms=_RETRY_MS,
        )
        closing(self)
        self._sender.__class__ = _Sender
        self._txn_manager.__class__ = _Manager
        self._message_accumulator.__class__ = _Accumulator

    def _partition(self, topic: str, partition: int | None, *message: bytes | None) -> int:
        """Ignores a requested partition that the topic does not have: it may come from another process's message."""
        known = partition in self._metadata.partitions_for_topic(topic)
        chosen: int = super()._partition(topic, partition if known else None, *message)
        return chosen

    async def send_offsets(
        self, offsets: Mapping[TopicPartition, tuple[int, str]], group: str, identity: Identity
    ) -> None:
        """Adds the offsets to the open transaction.

        Aborts it and raises one of EXPELLED if the group has moved on without this member.
        """
        self._sender._identity = identity
        try:
            await self.send_offsets_to_transaction(offsets, group)
        except EXPELLED:
            # Otherwise read-committed consumers would wait for it to time out.
            await self.abort_transaction()
            raise

    async def send_message(self, message: Message, parent: Span) -> "asyncio.Future[object]":
        """Hands over the message, under a child span of `parent`. Returns a future that is done on delivery."""
        key = message.key.decode("utf-8", "replace") if message.key is not None else ""
        span = messaging.start_send(message.topic, key, parent)
        try:
            sent: asyncio.Future[object] = await self.send(
                message.topic,
                message.value,
                message.key,
                partition=message.partition,
                headers=message.headers + messaging.trace_headers(span),
            )
        finally:
            span.end()
        # Not awaited if the transaction fails for another reason.
        sent.add_done_callback(heard)
        return sent
