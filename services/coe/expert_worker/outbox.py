"""Sends what leaves the worker: the chunks of each answer, in order, then its terminal event."""

import asyncio
import time
from collections.abc import Callable

from coe.expert_worker.effects import Finish, Loading, Text
from coe.expert_worker.hands import Hands
from coe.expert_worker.life import Life
from coe.expert_worker.metrics import WorkerMetrics
from coe.expert_worker.outcome import Identity, chunk, outcome
from coe.platform import logs
from coe.platform.bus.api import Bus, Outcome, ParallelConsumer, Record
from coe.platform.errors import CoEError
from coe.platform.telemetry import messaging

_log = logs.get(__name__)
# The most stream chunks that may wait for the broker. Further ones are dropped: the completion has the whole text.
MAX_CHUNKS = 10_000


class Outbox:
    """`identity` may be replaced at any time. `on_ended` is called when a terminal event has been committed, or when
    the prompt turned out to belong to another worker."""

    def __init__(
        self,
        bus: Bus,
        identity: Identity,
        metrics: WorkerMetrics,
        life: Life,
        hands: Hands,
        on_ended: Callable[[], None],
    ) -> None:
        self.identity = identity
        self._bus = bus
        self._metrics = metrics
        self._life = life
        self._hands = hands
        self._on_ended = on_ended
        self._waiting: asyncio.Queue[Finish | Loading | Text] = asyncio.Queue()
        # Terminal events being sent.
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def empty(self) -> bool:
        return self._waiting.empty() and not self._ending

    def put(self, effect: Finish | Loading | Text) -> None:
        if isinstance(effect, Finish) or self._waiting.qsize() < MAX_CHUNKS:
            self._waiting.put_nowait(effect)

    async def send(self, consumer: ParallelConsumer) -> None:
        """Sends in order: the Kafka client has all chunks of an answer before its terminal event is sent."""
        while True:
            effect = await self._waiting.get()
            if isinstance(effect, Finish):
                record = effect.prompt.record
                self._metrics.finished(effect, messaging.record_span(record))
                self.end(consumer, record, outcome(effect, self.identity, time.time_ns() // 1_000_000))
                continue
            try:
                with messaging.handling(effect.prompt.record):
                    await self._bus.publisher.post(chunk(effect))
            except CoEError as error:
                _log.warning("stream chunk not sent", request=effect.prompt.request_id, reason=error.message)

    def end(self, consumer: ParallelConsumer, record: Record, result: Outcome) -> None:
        task = self._life.spawn(self._complete(consumer, record, result))
        self._ending.add(task)
        task.add_done_callback(self._ended)

    async def _complete(self, consumer: ParallelConsumer, record: Record, result: Outcome) -> None:
        if not await consumer.complete(record, result):
            _log.info("prompt moved to another worker", partition=record.partition, offset=record.offset)
        self._hands.drop(record)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ending.discard(task)
        self._on_ended()
