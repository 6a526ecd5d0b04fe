"""Progress of each consumer group: how many records it has left, and how many members it has."""

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from coe.local.reading import between
from coe.platform import topics
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.ledger import OffsetLedger

GROUPS = {"coe-router": topics.PROMPTS, "coe-mapper": topics.ROUTED, "coe-expert-worker": topics.ASSIGNMENTS}
# Above so many offsets, records are no longer counted one by one.
_MANY = 1000
# Index of the members in a described group: error, id, state, protocol type, protocol, members.
_MEMBERS = 5


@dataclass(frozen=True)
class GroupFacts:
    """`left`: unfinished records of its topic. Above a thousand, it also counts transaction markers and records that
    were finished beyond the committed offset.
    """

    topic: str
    members: int
    left: int


async def groups(connection: Connection) -> dict[str, GroupFacts]:
    """Facts about the groups whose topics exist. Raises KafkaError or OSError."""
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
    """The number of its members, and what it has committed."""
    try:
        described = await admin.describe_consumer_groups([group])
        committed = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:
        # The broker has never had a consumer group.
        return 0, {}
    members = sum(len(one[_MEMBERS]) for response in described for one in response.groups)
    return members, {tp: OffsetLedger(mark.offset, mark.metadata or "") for tp, mark in committed.items()}


async def _left(
    admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, topic: str, committed: dict[TopicPartition, OffsetLedger]
) -> int:
    (described,) = await admin.describe_topics([topic])
    parts = [TopicPartition(topic, part["partition"]) for part in described["partitions"]]
    # A consumer knows the leaders only of partitions assigned to it.
    consumer.assign(parts)
    starts = await consumer.beginning_offsets(parts)
    # Records removed by retention no longer count.
    starts |= {tp: max(starts[tp], committed[tp].position) for tp in parts if tp in committed}
    ends = await consumer.end_offsets(parts)
    most: int = sum(max(0, ends[tp] - starts[tp]) for tp in parts)
    if most > _MANY:
        return most
    # Counted one by one: transaction markers are no work, nor are records that finished before an older one.
    ledgers = {tp: committed.get(tp) or OffsetLedger() for tp in parts}
    records = between(consumer, starts, ends)
    return len(
        [one async for one in records if not ledgers[TopicPartition(one.topic, one.partition)].is_done(one.offset)]
    )
