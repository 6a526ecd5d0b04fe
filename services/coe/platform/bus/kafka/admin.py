"""Makes the topics that are missing, and reads committed offsets."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import RequestTimedOutError, TopicAlreadyExistsError, for_code

from coe.platform.bus.api import TopicSpec
from coe.platform.bus.kafka.client import closing
from coe.platform.bus.kafka.connection import Connection

_log = structlog.stdlib.get_logger(__name__)


class Admin:
    """One admin client of the process. Every method raises KafkaError when the broker is away."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        client = closing(AIOKafkaAdminClient(**self._connection.options()))
        try:
            await client.start()
        except BaseException:
            await client.close()
            raise
        self._client = client

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Creates what does not exist, with the broker's default replication. Returns the names of the new ones."""
        existing = set(await self._ready().list_topics())
        missing = [spec for spec in specs if spec.name not in existing]
        if not missing:
            return []
        response = await self._ready().create_topics([_new_topic(spec) for spec in missing])
        for topic, code, *reason in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                _log.warning("a topic could not be created", topic=topic, error=error.__name__, reason=reason)
        return [spec.name for spec in missing]

    async def committed(self, group: str, tp: TopicPartition) -> tuple[int | None, str]:
        """The group's committed offset with its metadata; None when it has none.

        Transactions under way are not looked at: fence their producer first.
        """
        async with self._lock:
            found = await self._ready().list_consumer_group_offsets(group, partitions=[tp])
        if tp not in found:
            # An error of the whole response (the coordinator is loading) looks like this.
            raise RequestTimedOutError(f"no committed offset of {tp} yet")
        offset, metadata = found[tp]
        return (None, "") if offset < 0 else (offset, metadata or "")

    async def answers(self) -> bool:
        """Whether the broker answers a small request now."""
        try:
            await self._ready().describe_cluster()
        except Exception:
            # aiokafka also asserts: whatever it is, no answer came.
            return False
        return True

    def _ready(self) -> AIOKafkaAdminClient:
        if self._client is None:
            raise RequestTimedOutError("not connected")
        return self._client


def _new_topic(spec: TopicSpec) -> NewTopic:
    topic = NewTopic(spec.name, num_partitions=spec.partitions, replication_factor=1, topic_configs=spec.config)
    # -1 is the broker's default. The constructor refuses it, the protocol does not.
    topic.replication_factor = -1
    return topic
