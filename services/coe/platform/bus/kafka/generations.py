"""Requests in which the broker checks a consumer group's generation (KIP-447).

aiokafka supports only TxnOffsetCommit version 0, which does not identify the group member, and OffsetFetch up to
version 3, which ignores open transactions. This module adds versions 3 and 7: commits by members of earlier generations
are refused, and a reader can wait for commits that are still pending.
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
        """Whether this is the same member in the same or next generation.

        If so, no other member had the partitions it kept.
        """
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
    """Commits offsets in a producer's transaction, on behalf of a group member."""

    API_KEY = 28

    def __init__(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        group: str,
        identity: Identity,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """`producer`: the producer's id and epoch."""
        topics: dict[str, list[tuple[int, int, int, str, dict[int, bytes]]]] = {}
        for tp, (offset, metadata) in offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, offset, _NO_EPOCH, metadata, _TAGS))
        named = [(topic, partitions, _TAGS) for topic, partitions in topics.items()]
        self._fields = (transactional_id, group, *producer, *identity, None, named, _TAGS)

    def build(self, request_struct_class: type[CommitOffsetsV3]) -> CommitOffsetsV3:
        return request_struct_class(*self._fields)


class StableOffsets(Request[FetchOffsetsV7]):  # type: ignore[misc]
    """Fetches a group's committed offsets. A partition with a pending commit returns UNSTABLE_OFFSET_COMMIT."""

    API_KEY = 9

    def __init__(self, group: str, partitions: Iterable[TopicPartition]) -> None:
        topics: dict[str, list[int]] = {}
        for topic, partition in partitions:
            topics.setdefault(topic, []).append(partition)
        self._fields = (group, [(topic, numbers, _TAGS) for topic, numbers in topics.items()], True, _TAGS)

    def build(self, request_struct_class: type[FetchOffsetsV7]) -> FetchOffsetsV7:
        return request_struct_class(*self._fields)
