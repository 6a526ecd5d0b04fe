"""In-memory fakes for the worker: a one-partition bus, immediate leases, an engine whose steps tests can hold."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from google.protobuf.message import Message

from coe._proto import events_pb2
from coe.expert_worker.effects import Acquire, Grant, Prefetch
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing, Record, Subscription
from coe.platform.errors import CoEError, ContextExceeded
from unit.expert_worker.worker_world import FakeEmission

WAIT_S = 10.0


class FakeBus:
    """Records come from `put`; `ended` holds the outcomes by offset, `posted` the stream chunks."""

    def __init__(self) -> None:
        self.records: asyncio.Queue[Record] = asyncio.Queue()
        self.cancellations: asyncio.Queue[Record] = asyncio.Queue()
        self.ended: dict[int, Outcome] = {}
        self.posted: list[events_pb2.TokenChunk] = []
        self.posted_as_json: list[bool] = []
        self.lost: set[int] = set()
        self.attempts: dict[int, int] = {}
        self.counting: dict[int, asyncio.Future[None]] = {}
        self.open = False
        self._offset = 0
        self._changed = asyncio.Condition()

    @property
    def publisher(self) -> "FakeBus":
        return self

    async def post(self, outgoing: Outgoing) -> None:
        assert isinstance(outgoing.message, events_pb2.TokenChunk)
        self.posted.append(outgoing.message)
        self.posted_as_json.append(outgoing.as_json)
        async with self._changed:
            self._changed.notify_all()

    @asynccontextmanager
    async def parallel(self, subscription: Subscription) -> AsyncIterator["FakeBus"]:
        self.open = True
        yield self
        self.open = False

    @asynccontextmanager
    async def tail(self, names: Sequence[str]) -> AsyncIterator[AsyncIterator[Record]]:
        assert list(names) == [topics.CANCELLATIONS]
        yield _drain(self.cancellations)

    def __aiter__(self) -> AsyncIterator[Record]:
        return _drain(self.records)

    async def complete(self, record: Record, outcome: Outcome) -> bool:
        assert self.open
        if record.offset in self.lost:
            return False
        assert record.offset not in self.ended, "answered twice"
        self.ended[record.offset] = outcome
        async with self._changed:
            self._changed.notify_all()
        return True

    def attempt(self, record: Record) -> int:
        return self.attempts.get(record.offset, 0)

    def counted(self, record: Record) -> "asyncio.Future[None] | None":
        return self.counting.get(record.offset)

    @property
    def partitions(self) -> tuple[int, ...]:
        return (0,)

    def revoked(self, record: Record) -> bool:
        return record.offset in self.lost

    # For tests.

    def put(self, message: Message | bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> int:
        value = message if isinstance(message, bytes) else message.SerializeToString()
        offset, self._offset = self._offset, self._offset + 1
        self.records.put_nowait(Record(topics.ASSIGNMENTS, 0, offset, b"a#0", value, headers, timestamp_ms=1))
        return offset

    def cancel(self, request_id: str) -> None:
        value = events_pb2.PromptCancelled(request_id=request_id).SerializeToString()
        self.cancellations.put_nowait(Record(topics.CANCELLATIONS, 0, 0, b"", value, (), timestamp_ms=1))

    async def until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def completed(self, offset: int) -> events_pb2.PromptCompleted:
        await self.until(lambda: offset in self.ended)
        (outgoing,) = self.ended[offset].publish
        assert isinstance(outgoing.message, events_pb2.PromptCompleted)
        return outgoing.message


class FakeLeases:
    def __init__(self) -> None:
        self.held: dict[int, str] = {}
        self.refusal: CoEError | None = None
        # Experts whose bytes never come, and who waits for them.
        self.stuck: set[str] = set()
        self.waiting: set[str] = set()
        self.epoch = 1
        self._ids = 0

    async def acquire(self, wish: Acquire) -> Grant:
        if self.refusal is not None:
            raise self.refusal
        if wish.expert_id in self.stuck:
            self.waiting.add(wish.expert_id)
            try:
                await asyncio.Event().wait()
            finally:
                self.waiting.discard(wish.expert_id)
        self._ids += 1
        self.held[self._ids] = wish.expert_id
        return Grant(self._ids, handle=self._ids, epoch=self.epoch, found_in="ddr", bytes_to_copy=100)

    async def release(self, grant: Grant) -> None:
        del self.held[grant.lease_id]

    async def prefetch(self, wish: Prefetch) -> None:
        pass


class Panic(BaseException):
    """As those of tokenizers, which are no Exceptions."""


class FakeRunner:
    """Says "t" max_tokens times, one a step, when the gate is open. "boom" and "panic" break the engine."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate
        self._live: dict[str, tuple[int, int]] = {}
        self._broken: BaseException | None = None
        self.leases: list[int] = []

    @property
    def live(self) -> int:
        return len(self._live)

    def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None:
        prompt = conversation.turns[-1]["content"]
        if prompt == "long":
            raise ContextExceeded("too long")
        if prompt in ("boom", "panic"):
            self._broken = ZeroDivisionError("boom") if prompt == "boom" else Panic()
        self._live[request_id] = (0, sampling.max_tokens)

    def step(self, lease: int) -> list[FakeEmission]:
        assert self._gate.wait(WAIT_S)
        self.leases.append(lease)
        if self._broken is not None:
            raise self._broken
        emissions = []
        for key, (made, wanted) in list(self._live.items()):
            done = made + 1 == wanted
            self._live[key] = (made + 1, wanted)
            if done:
                del self._live[key]
            reason = "length" if done else None
            emissions.append(FakeEmission(key, "t", 1, 3, made + 1, reason, "t" * wanted if done else ""))
        return emissions

    def cancel(self, request_id: str) -> None:
        self._live.pop(request_id, None)

    def close(self) -> None:
        self._live.clear()


async def _drain(queue: asyncio.Queue[Record]) -> AsyncIterator[Record]:
    while True:
        yield await queue.get()
