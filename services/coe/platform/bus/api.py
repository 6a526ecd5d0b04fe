"""Interfaces to the event bus: only what the services need of Kafka.

There are two ways to consume:

* `process`: for cheap, deterministic work (router, mapper). Outputs and input offsets share a transaction.
* `parallel`: for long work that finishes out of order (worker). Each record is completed individually. The commit
  includes the set of offsets done beyond the committed one, so that after a crash no record is lost or answered twice.

The in-memory bus and the Kafka bus pass the same contract suite (tests/contract/bus_suite.py).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Protocol

from google.protobuf.message import Message

from coe.platform.errors import CoEError


class Record(NamedTuple):
    """A message read from a topic.

    `headers` are in their original order. For a repeated name `header` returns the last value; a null value counts as
    absent.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int

    def header(self, name: str) -> str | None:
        for key, value in reversed(self.headers):
            if key == name:
                return None if value is None else value.decode("utf-8", "replace")
        return None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish. The bus adds CloudEvents headers and the trace context of the current span.

    `as_json`: encode in protobuf's JSON form, for readers that asked for it.
    """

    topic: str
    key: str
    message: Message
    headers: tuple[tuple[str, str], ...] = ()
    partition: int | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of handling a record: messages to publish, and an error if the record goes to the dead letters."""

    publish: Sequence[Outgoing] = ()
    dead_letter: CoEError | None = None


BatchHandler = Callable[[Sequence[Record]], Awaitable[Sequence[Outcome]]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A consumer group's subscription to a topic. `group` also prefixes the transactional ids."""

    topic: str
    group: str
    max_batch: int = 64
    # Maximum number of records in flight (taken, not completed) over all partitions; at the limit consumption pauses.
    max_in_flight: int = 256


class Publisher(Protocol):
    """Publishes with idempotence and acks=all.

    `publish` returns once the broker has the message, `post` as soon as it is buffered.
    """

    async def publish(self, outgoing: Outgoing) -> None: ...

    async def post(self, outgoing: Outgoing) -> None: ...


class ParallelConsumer(Protocol):
    """Takes records in order and completes them in any order."""

    def __aiter__(self) -> AsyncIterator[Record]: ...

    async def complete(self, record: Record, outcome: Outcome) -> bool:
        """Publishes the outcome and marks the record done, in one transaction.

        Returns False if the partition has been revoked: nothing was published, and another worker will answer.
        """
        ...

    def attempt(self, record: Record) -> int:
        """How often earlier consumers, now gone, had handed out the record, as far as is known; usually 0."""
        ...

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        """A future that is done once the record's hand-out is committed, so that the next owner's `attempt` counts it.

        None if it is committed already, or if this consumer has had the partition for so long that the record cannot be
        what crashed the previous owner.
        """
        ...

    @property
    def partitions(self) -> Collection[int]:
        """The partitions currently assigned to this consumer."""
        ...

    def revoked(self, record: Record) -> bool:
        """Whether the record's partition has been revoked, which makes further work on it pointless."""
        ...


class Bus(Protocol):
    """A process's connection to the event bus. Call `start` before use; `stop` flushes and leaves the groups."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def publisher(self) -> Publisher: ...

    async def process(self, subscription: Subscription, handler: BatchHandler) -> None:
        """Consumes, handles, publishes and commits in transactions until cancelled, then drains what it has taken."""
        ...

    def parallel(self, subscription: Subscription) -> "ParallelConsumerContext": ...

    def tail(self, topics: Sequence[str]) -> "TailContext":
        """Follows all partitions without a group (read committed), from the records published from now on."""
        ...

    async def healthy(self) -> bool:
        """Whether the broker responds."""
        ...


class ParallelConsumerContext(Protocol):
    async def __aenter__(self) -> ParallelConsumer: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TailContext(Protocol):
    """Entering returns once the end of every partition is known; nothing published after that is missed."""

    async def __aenter__(self) -> AsyncIterator[Record]: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create if it does not exist."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
