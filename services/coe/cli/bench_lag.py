"""How much the consumer groups have left to do."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from coe.platform import topics

GROUPS = {"coe-router": topics.PROMPTS, "coe-mapper": topics.ROUTED, "coe-expert-worker": topics.ASSIGNMENTS}
_LOOKS = 20
_BETWEEN_S = 0.5


async def settled(bootstrap: str) -> int:
    """Records that no group has committed, once that is 0 or after some seconds."""
    left = await _left(bootstrap)
    for _ in range(_LOOKS):
        if not left:
            break
        await asyncio.sleep(_BETWEEN_S)
        left = await _left(bootstrap)
    return left


async def _left(bootstrap: str) -> int:
    """Counted by reading them: offsets at a topic's end that only mark transactions are nobody's work."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        committed = {group: await admin.list_consumer_group_offsets(group) for group in GROUPS}
    finally:
        await admin.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    async with consumer:
        starts = {
            tp: offset.offset
            for group, topic in GROUPS.items()
            for tp, offset in committed[group].items()
            if tp.topic == topic and offset.offset >= 0
        }
        return await _count(consumer, starts) if starts else 0


async def _count(consumer: AIOKafkaConsumer, starts: dict[TopicPartition, int]) -> int:
    """Records from these offsets on."""
    consumer.assign(list(starts))
    ends = await consumer.end_offsets(list(starts))
    open_ = {tp for tp, start in starts.items() if start < ends[tp]}
    for tp in starts:
        consumer.seek(tp, starts[tp])
    found = 0
    # Marks of transactions are skipped without a word: nothing within the time is nothing left.
    while open_ and (batches := await consumer.getmany(*open_, timeout_ms=500)):
        found += sum(len(records) for records in batches.values())
        open_ = {tp for tp in open_ if await consumer.position(tp) < ends[tp]}
    return found
