"""Makes the topics that are missing, reads committed offsets, fences producers."""

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
# Instead of a time: the first offset that is there, and the end. Readers of what is committed see no further.
_FIRST, _END = -2, -1
_READ_COMMITTED = 1


class Admin:
    """One admin client of the process. Every method raises KafkaError when the broker is away."""

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
        """Creates what does not exist, with the broker's default replication. Returns the names of the new ones."""
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
        """The group's committed offsets with their metadata; None where it has none.

        Partitions with a commit whose transaction has not ended are left out: ask again.
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
        """Offsets of the topic that the group has not committed; what retention has removed counts no more."""
        ends, firsts = await self._offsets(topic, _END), await self._offsets(topic, _FIRST)
        marks = await self._ready().list_consumer_group_offsets(group, partitions=list(ends))
        begun = {tp: max(marks[tp].offset if tp in marks else 0, firsts.get(tp, 0)) for tp in ends}
        return sum(max(0, end - begun[tp]) for tp, end in ends.items())

    async def _offsets(self, topic: str, where: int) -> dict[TopicPartition, int]:
        """Of every partition that has a leader."""
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
        """Whoever has one of these ids can't write any more, and a transaction it has open has ended."""
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
            # The transaction is being ended, or the coordinator starts.
            await asyncio.sleep(_RETRY_S)

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


def _check(code: int) -> None:
    if code:
        raise for_code(code)()
