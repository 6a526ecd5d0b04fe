"""Follows topics from their current ends, without a group.

Partitions are assigned here rather than by aiokafka. When a partition is added or a topic is briefly unknown, aiokafka
restarts at the end of every partition and misses the records in between.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from coe.platform import backoff
from coe.platform.bus.api import Record
from coe.platform.bus.kafka.client import closing, stop_consumer
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.membership import as_record
from coe.platform.errors import Unavailable

_log = structlog.stdlib.get_logger(__name__)
_ENTER_TIMEOUT_S = 30.0
_MAX_RECORDS = 1000


class KafkaTail:
    """Entering returns once the end of every partition is known. Raises Unavailable if that takes more than 30 s."""

    def __init__(self, connection: Connection, topics: Sequence[str]) -> None:
        self._topics = tuple(topics)
        self._connection = connection
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> AsyncIterator[Record]:
        self._consumer = consumer = closing(
            AIOKafkaConsumer(
                *self._topics,
                **self._connection.options(),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                isolation_level="read_committed",
            )
        )
        try:
            async with asyncio.timeout(_ENTER_TIMEOUT_S):
                await consumer.start()
                partitions = list(consumer.assignment())
                consumer.unsubscribe()
                consumer.assign(partitions)
                await consumer.seek_to_end()
                for tp in partitions:
                    await consumer.position(tp)
        except (TimeoutError, KafkaError, OSError) as error:
            await stop_consumer(consumer)
            raise Unavailable(f"the ends of {', '.join(self._topics)} can't be found: {error!r}") from error
        except BaseException:
            await stop_consumer(consumer)
            raise
        return _records(consumer, self._topics)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._consumer is not None:
            await stop_consumer(self._consumer)


async def _records(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> AsyncIterator[Record]:
    failures = 0
    cluster, seen = consumer._client.cluster, 0.0
    while True:
        try:
            # New partitions show up when the metadata is refreshed.
            if (newest := cluster._last_successful_refresh_ms) != seen:
                await _take_new_partitions(consumer, topics)
                seen = newest
            batches = await consumer.getmany(timeout_ms=1000, max_records=_MAX_RECORDS)
            failures = 0
        except ConsumerStoppedError:
            return
        except Exception as error:
            failures += 1
            _log.warning("a followed topic can't be read", error=repr(error))
            await asyncio.sleep(backoff.delay_s(failures))
            continue
        for records in batches.values():
            for record in records:
                yield as_record(record)
        if sum(map(len, batches.values())) == _MAX_RECORDS:
            # More is buffered and would be returned without a pause; let other tasks run first.
            await asyncio.sleep(0)


async def _take_new_partitions(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> None:
    """Assigns new partitions from their beginning, since all their records are new. The others keep their positions."""
    known = consumer.assignment()
    there = {TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic) or ()}
    if not there - known:
        return
    offsets = {tp: await consumer.position(tp) for tp in known} | dict.fromkeys(there - known, 0)
    _log.info("partitions were added", topics=sorted({tp.topic for tp in there - known}))
    consumer.assign(list(offsets))
    for tp, offset in offsets.items():
        consumer.seek(tp, offset)
