"""What leaves the worker: the chunks of an answer, in order, then its end."""

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
# Stream chunks that may wait for the broker. More are dropped: the completion has the text.
MAX_CHUNKS = 10_000


class Outbox:
    """`identity` may change. `on_ended`: a terminal event is out, or another worker answers."""

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
        # Terminal events on their way.
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def empty(self) -> bool:
        return self._waiting.empty() and not self._ending

    def put(self, effect: Finish | Loading | Text) -> None:
        if isinstance(effect, Finish) or self._waiting.qsize() < MAX_CHUNKS:
            self._waiting.put_nowait(effect)

    async def send(self, consumer: ParallelConsumer) -> None:
        """In order: the chunks of an answer are with the broker's client before its end is on the way."""
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
                _log.warning("a stream chunk was not sent", request=effect.prompt.request_id, reason=error.message)

    def end(self, consumer: ParallelConsumer, record: Record, result: Outcome) -> None:
        task = self._life.spawn(self._complete(consumer, record, result))
        self._ending.add(task)
        task.add_done_callback(self._ended)

    async def _complete(self, consumer: ParallelConsumer, record: Record, result: Outcome) -> None:
        if not await consumer.complete(record, result):
            _log.info("a prompt went to another worker", partition=record.partition, offset=record.offset)
        self._hands.drop(record)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ending.discard(task)
        self._on_ended()
