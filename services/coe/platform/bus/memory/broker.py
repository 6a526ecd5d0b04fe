"""The in-memory broker: topics and consumer groups."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from zlib import crc32

from coe.platform.bus.api import Record, Subscription
from coe.platform.bus.messages import Message

DEFAULT_PARTITIONS = 4


class Member(Protocol):
    """A group member."""

    @property
    def partitions(self) -> Collection[int]: ...

    def assign(self, partitions: Sequence[int]) -> None: ...


@dataclass
class Group:
    """A consumer group: its members and commits (partition -> offset and metadata)."""

    members: list[Member] = field(default_factory=list)
    committed: dict[int, tuple[int, str]] = field(default_factory=dict)


class MemoryBroker:
    """Topics and groups shared by the buses of several "processes". A topic is created when it is first used."""

    def __init__(self) -> None:
        self._topics: dict[str, list[list[Record]]] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._changed = asyncio.Event()

    def create(self, topic: str, partitions: int) -> None:
        self._topics.setdefault(topic, [[] for _ in range(partitions)])

    def partitions(self, topic: str) -> list[list[Record]]:
        """The records of each partition of the topic, oldest first."""
        self.create(topic, DEFAULT_PARTITIONS)
        return self._topics[topic]

    def append(self, message: Message) -> None:
        logs = self.partitions(message.topic)
        partition = message.partition if message.partition is not None else crc32(message.key or b"") % len(logs)
        log, now_ms = logs[partition], time.time_ns() // 1_000_000
        headers = tuple(message.headers)
        log.append(Record(message.topic, partition, len(log), message.key, message.value, headers, now_ms))
        self.notify()

    def group(self, subscription: Subscription) -> Group:
        return self._groups.setdefault((subscription.group, subscription.topic), Group())

    def notify(self) -> None:
        """Wakes all tasks waiting for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        await self._changed.wait()
