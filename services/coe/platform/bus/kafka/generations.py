"""Requests in which the broker checks a consumer group's generation (KIP-447).

aiokafka speaks TxnOffsetCommit version 0, which says nothing of the group, and OffsetFetch up to version 3, which reads
past transactions under way. Here are version 3 of the one and 7 of the other: a commit by a member of a former
generation is refused, and who reads afterwards can wait for what was committed before.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import OffsetAndMetadata

UNSTABLE_OFFSET_COMMIT = 88

_NO_EPOCH = -1
_TEXT = CompactString("utf-8")
_TAGS: dict[int, bytes] = {}


class Identity(NamedTuple):
    """A member of a consumer group, in one generation of it."""

    generation: int
    member_id: str

    def follows(self, before: "Identity") -> bool:
        """Whether it is the same member in the next generation: what it has in both nobody else had in between."""
        return self.member_id == before.member_id and self.generation - before.generation in (0, 1)


class OffsetsCommitted(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", _TEXT),
                ("partition_errors", CompactArray(("partition", Int32), ("error_code", Int16), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class CommitOffsetsV3(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 28
    API_VERSION = 3
    RESPONSE_TYPE = OffsetsCommitted
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class OffsetsFetched(Response):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class FetchOffsetsV7(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = OffsetsFetched
    SCHEMA = Schema(
        ("group_id", _TEXT),
        (
            "topics",
            CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class CommitOffsets(Request[CommitOffsetsV3]):  # type: ignore[misc]
    """Offsets into the transaction of a producer, by a member of the group."""

    API_KEY = 28

    def __init__(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        group: str,
        identity: Identity,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """`producer`: its id and epoch."""
        topics: dict[str, list[tuple[int, int, int, str, dict[int, bytes]]]] = {}
        for tp, (offset, metadata) in offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, offset, _NO_EPOCH, metadata, _TAGS))
        named = [(topic, partitions, _TAGS) for topic, partitions in topics.items()]
        self._fields = (transactional_id, group, *producer, *identity, None, named, _TAGS)

    def build(self, request_struct_class: type[CommitOffsetsV3]) -> CommitOffsetsV3:
        return request_struct_class(*self._fields)


class StableOffsets(Request[FetchOffsetsV7]):  # type: ignore[misc]
    """Asks for a group's committed offsets; a partition with a commit under way answers UNSTABLE_OFFSET_COMMIT."""

    API_KEY = 9

    def __init__(self, group: str, partitions: Iterable[TopicPartition]) -> None:
        topics: dict[str, list[int]] = {}
        for topic, partition in partitions:
            topics.setdefault(topic, []).append(partition)
        self._fields = (group, [(topic, numbers, _TAGS) for topic, numbers in topics.items()], True, _TAGS)

    def build(self, request_struct_class: type[FetchOffsetsV7]) -> FetchOffsetsV7:
        return request_struct_class(*self._fields)
