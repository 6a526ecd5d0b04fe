"""What lies on a topic between two offsets, and no more."""

from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

# Ten fetches: the first ones may still be of where the consumer stood before.
_NOTHING_MS = 1000


async def between(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[ConsumerRecord]:
    """The records of the partitions that `consumer` has. Its fetches wait for a tenth of a second at most."""
    for tp, start in starts.items():
        consumer.seek(tp, start)
    open_ = {tp for tp, start in starts.items() if start < ends[tp]}
    # Marks of transactions are skipped without a word: nothing within the time is nothing left.
    while open_ and (batches := await consumer.getmany(*open_, timeout_ms=_NOTHING_MS)):
        for records in batches.values():
            for record in records:
                yield record
        open_ = {tp for tp in open_ if await consumer.position(tp) < ends[tp]}
