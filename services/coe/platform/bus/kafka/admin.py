"""Creates missing topics, reads committed offsets and lag, and fences producers."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from coe.platform.bus.api import TopicSpec
from coe.platform.bus.kafka.client import closing
from coe.platform.bus.kafka.connection import TRANSACTION_TIMEOUT_MS, Connection
from coe.platform.bus.kafka.generations import UNSTABLE_OFFSET_COMMIT, StableOffsets

_log = structlog.stdlib.get_logger(__name__)

_NOT_YET = (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)
_RETRY_S = 0.02
# Special timestamps: the first offset, and the end as seen by read-committed consumers.
_FIRST, _END = -2, -1
_READ_COMMITTED = 1


class Admin:
    """The process's admin client. Requests raise KafkaError if the broker is unreachable; `answers` returns False."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: AIOKafkaAdminClient | None = None

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
        """Creates missing topics with the broker's default replication factor. Returns the names of those created."""
        existing = set(await self._ready().list_topics())
        missing = [spec for spec in specs if spec.name not in existing]
        if not missing:
            return []
        response = await self._ready().create_topics([_new_topic(spec) for spec in missing])
        created = []
        for topic, code, *reason in response.topic_errors:
            error = for_code(code)
            if not code:
                created.append(topic)
            elif error is not TopicAlreadyExistsError:
                _log.warning("a topic could not be created", topic=topic, error=error.__name__, reason=reason)
        return created

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, tuple[int | None, str]]:
        """The group's committed offsets with their metadata; offset None where there is no commit.

        Partitions with a commit in an open transaction are left out: call again for those.
        """
        client = self._ready()
        coordinator = await client.find_coordinator(group)
        response = await client._send_request(StableOffsets(group, partitions), coordinator)
        _check(response.error_code)
        found: dict[TopicPartition, tuple[int | None, str]] = {}
        for topic, answers, _ in response.topics:
            for partition, offset, _, metadata, code, _ in answers:
                if code == UNSTABLE_OFFSET_COMMIT:
                    continue
                _check(code)
                found[TopicPartition(topic, partition)] = (None, "") if offset < 0 else (offset, metadata or "")
        return found

    async def lag(self, group: str, topic: str) -> int:
        """The number of offsets the group has not committed, not counting records removed by retention."""
        ends, firsts = await self._offsets(topic, _END), await self._offsets(topic, _FIRST)
        marks = await self._ready().list_consumer_group_offsets(group, partitions=list(ends))
        begun = {tp: max(marks[tp].offset if tp in marks else 0, firsts.get(tp, 0)) for tp in ends}
        return sum(max(0, end - begun[tp]) for tp, end in ends.items())

    async def _offsets(self, topic: str, where: int) -> dict[TopicPartition, int]:
        """The offsets at `where`, for every partition that has a leader."""
        client = self._ready()
        (described,) = await client.describe_topics([topic])
        led: dict[int, list[tuple[int, int]]] = {}
        for part in described["partitions"]:
            if part["leader"] >= 0:
                led.setdefault(part["leader"], []).append((part["partition"], where))
        found: dict[TopicPartition, int] = {}
        for leader, parts in led.items():
            response = await client._send_request(OffsetRequest(-1, _READ_COMMITTED, [(topic, parts)]), leader)
            for _, answers in response.topics:
                for partition, code, _, offset in answers:
                    _check(code)
                    found[TopicPartition(topic, partition)] = offset
        return found

    async def fence(self, transactional_ids: Sequence[str]) -> None:
        """Fences the producers that have these ids: they can no longer write, and their open transactions are ended."""
        results = await asyncio.gather(*(self._fence(one) for one in transactional_ids), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _fence(self, transactional_id: str) -> None:
        client = self._ready()._client
        request = InitProducerIdRequest(transactional_id, TRANSACTION_TIMEOUT_MS)
        while True:
            coordinator = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
            response = await client.send(coordinator, request)
            if for_code(response.error_code) not in _NOT_YET:
                return _check(response.error_code)
            # The transaction is still being ended, or the coordinator is starting.
            await asyncio.sleep(_RETRY_S)

    async def answers(self) -> bool:
        """Whether the broker responds to a small request."""
        try:
            await self._ready().describe_cluster()
        except Exception:
            # aiokafka can also fail an assertion; any exception means there was no response.
            return False
        return True

    def _ready(self) -> AIOKafkaAdminClient:
        if self._client is None:
            raise RequestTimedOutError("not connected")
        return self._client


def _new_topic(spec: TopicSpec) -> NewTopic:
    topic = NewTopic(spec.name, num_partitions=spec.partitions, replication_factor=1, topic_configs=spec.config)
    # -1 selects the broker's default. The protocol allows it, but the constructor does not.
    topic.replication_factor = -1
    return topic


def _check(code: int) -> None:
    if code:
        raise for_code(code)()
