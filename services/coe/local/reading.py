"""Reads the records of a topic between two offsets."""

from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

# Ten fetches: the first ones may still be for the consumer's previous position.
_NOTHING_MS = 1000


async def between(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[ConsumerRecord]:
    """Yields the records from `starts` to `ends`. `consumer` has the partitions; its fetches wait 0.1 s at most."""
    for tp, start in starts.items():
        consumer.seek(tp, start)
    open_ = {tp for tp, start in starts.items() if start < ends[tp]}
    # Transaction markers are skipped silently, so the end may never be reached: an empty result means it has been.
    while open_ and (batches := await consumer.getmany(*open_, timeout_ms=_NOTHING_MS)):
        for records in batches.values():
            for record in records:
                yield record
        open_ = {tp for tp in open_ if await consumer.position(tp) < ends[tp]}
