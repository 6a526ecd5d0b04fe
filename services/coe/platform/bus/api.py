"""The port to the event bus: what services need of Kafka, and no more.

Two ways to consume, after what the work costs:

* `process`: cheap, deterministic work (router, mapper). One transaction holds the outputs and the input offsets.
* `parallel`: long work that ends out of order (worker). Each record is completed on its own; the commit carries the
  set of offsets done beyond the committed one, so that a crash loses nothing and answers nothing twice.

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
    """A message as it lies on a topic.

    `headers` keep their order; a repeated name keeps its last value in `header`, and a null value counts as absent.
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

    `as_json`: in protobuf's JSON form, for readers that asked for it.
    """

    topic: str
    key: str
    message: Message
    headers: tuple[tuple[str, str], ...] = ()
    partition: int | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What handling one record led to: messages to publish, and an error when it goes to the dead letters."""

    publish: Sequence[Outgoing] = ()
    dead_letter: CoEError | None = None


BatchHandler = Callable[[Sequence[Record]], Awaitable[Sequence[Outcome]]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who consumes what. `group` names the consumer group and prefixes the transactional ids."""

    topic: str
    group: str
    max_batch: int = 64
    # Records taken and not yet completed, over all partitions; consumption pauses above it.
    max_in_flight: int = 256


class Publisher(Protocol):
    """Idempotent, acks=all. `publish` returns when the broker has the message; `post` only when it is buffered."""

    async def publish(self, outgoing: Outgoing) -> None: ...

    async def post(self, outgoing: Outgoing) -> None: ...


class ParallelConsumer(Protocol):
    """Takes records in order and completes them in any order."""

    def __aiter__(self) -> AsyncIterator[Record]: ...

    async def complete(self, record: Record, outcome: Outcome) -> bool:
        """Publishes the outcome and marks the record done, in one transaction.

        False: the partition was taken away meanwhile, nothing was published, another worker answers.
        """
        ...

    def attempt(self, record: Record) -> int:
        """0, or how often the record was handed out before by a consumer that is gone, as far as is known."""
        ...

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        """Done when it is committed that the record was handed out, so that who has it next counts it (`attempt`).

        None: it is, or the partition has been ours for so long that nobody who died with it left the record behind.
        """
        ...

    @property
    def partitions(self) -> Collection[int]:
        """Those that this consumer has now."""
        ...

    def revoked(self, record: Record) -> bool:
        """True when the record's partition is no longer ours: work on it is pointless."""
        ...


class Bus(Protocol):
    """One per process. Start before use; `stop` flushes and leaves the groups."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def publisher(self) -> Publisher: ...

    async def process(self, subscription: Subscription, handler: BatchHandler) -> None:
        """Consumes, handles, publishes and commits in transactions until cancelled. Drains what it has taken."""
        ...

    def parallel(self, subscription: Subscription) -> "ParallelConsumerContext": ...

    def tail(self, topics: Sequence[str]) -> "TailContext":
        """Every record published from now on, of all partitions, without a group (read committed)."""
        ...

    async def healthy(self) -> bool:
        """Whether the broker answers."""
        ...


class ParallelConsumerContext(Protocol):
    async def __aenter__(self) -> ParallelConsumer: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TailContext(Protocol):
    """Entered once the end of every partition is known: nothing published after that is missed."""

    async def __aenter__(self) -> AsyncIterator[Record]: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create when it does not exist."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
