"""How far each consumer group has come: how many records it has left, and how many processes read for it."""

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from coe.local.reading import between
from coe.platform import topics
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.ledger import OffsetLedger

GROUPS = {"coe-router": topics.PROMPTS, "coe-mapper": topics.ROUTED, "coe-expert-worker": topics.ASSIGNMENTS}
# Offsets beyond which records are no longer counted one by one.
_MANY = 1000
# The field of a described group: error, id, state, protocol's type, protocol, members.
_MEMBERS = 5


@dataclass(frozen=True)
class GroupFacts:
    """`left`: records of its topic that it has not ended; above a thousand also those that it has, beyond the one
    committed offset, and the marks of transactions.
    """

    topic: str
    members: int
    left: int


async def groups(connection: Connection) -> dict[str, GroupFacts]:
    """Of the groups whose topics are there. Raises KafkaError or OSError."""
    admin = AIOKafkaAdminClient(**connection.options())
    consumer = AIOKafkaConsumer(**connection.options(), isolation_level="read_committed", fetch_max_wait_ms=100)
    try:
        await admin.start()
        await consumer.start()
        there = set(await admin.list_topics())
        found = {}
        for group, topic in GROUPS.items():
            if topic in there:
                members, committed = await _described(admin, group)
                found[group] = GroupFacts(topic, members, await _left(admin, consumer, topic, committed))
        return found
    finally:
        await consumer.stop()
        await admin.close()


async def _described(admin: AIOKafkaAdminClient, group: str) -> tuple[int, dict[TopicPartition, OffsetLedger]]:
    """Its members, and what it has committed."""
    try:
        described = await admin.describe_consumer_groups([group])
        committed = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:
        # A broker that has never had a group.
        return 0, {}
    members = sum(len(one[_MEMBERS]) for response in described for one in response.groups)
    return members, {tp: OffsetLedger(mark.offset, mark.metadata or "") for tp, mark in committed.items()}


async def _left(
    admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, topic: str, committed: dict[TopicPartition, OffsetLedger]
) -> int:
    (described,) = await admin.describe_topics([topic])
    parts = [TopicPartition(topic, part["partition"]) for part in described["partitions"]]
    # Only of partitions that it has does a consumer know who leads them.
    consumer.assign(parts)
    starts = await consumer.beginning_offsets(parts)
    # What retention has removed is nobody's work any more.
    starts |= {tp: max(starts[tp], committed[tp].position) for tp in parts if tp in committed}
    ends = await consumer.end_offsets(parts)
    most: int = sum(max(0, ends[tp] - starts[tp]) for tp in parts)
    if most > _MANY:
        return most
    # One by one: offsets that only mark transactions are nobody's work, nor is what ended before an older one.
    ledgers = {tp: committed.get(tp) or OffsetLedger() for tp in parts}
    records = between(consumer, starts, ends)
    return len(
        [one async for one in records if not ledgers[TopicPartition(one.topic, one.partition)].is_done(one.offset)]
    )
