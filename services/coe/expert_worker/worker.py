"""The loop's outside: feeds it events and carries out its effects; the engine steps in a thread of its own."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial

from coe._proto import events_pb2
from coe.expert_worker.effects import (
    Abandon,
    Acquire,
    Discard,
    Effect,
    Finish,
    LeaseSource,
    Loading,
    Prefetch,
    Release,
    Residency,
    Step,
    StepDone,
    Text,
)
from coe.expert_worker.hands import Hands
from coe.expert_worker.intake import MAX_ATTEMPTS, Intake
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.metrics import WorkerMetrics
from coe.expert_worker.outcome import Identity, chunk, outcome
from coe.expert_worker.prompt import Prompt
from coe.expert_worker.runners import Runners
from coe.platform import logs, topics
from coe.platform.bus import codec
from coe.platform.bus.api import Bus, Outcome, ParallelConsumer, Record, Subscription
from coe.platform.errors import CoEError
from coe.platform.telemetry import messaging

_log = logs.get(__name__)
# How often deadlines and lost partitions are looked for.
TICK_S = 0.25
# For so long a thread may keep the interpreter from another that wants it. Python's own 5 ms are a whole step.
HANDOVER_S = 0.0001
# Stream chunks that may wait for the broker. More are dropped: the completion has the text.
MAX_CHUNKS = 10_000

Event = Callable[[float], list[Effect]]


class Worker:
    """`known` says which bundle an expert has, or raises the CoEError of one that can't run here.

    `on_queue` hears four times a second how many prompts each expert has here, waiting or running, and which partitions
    the worker has. `begin_after_s`: after the first prompt came.
    """

    def __init__(
        self,
        bus: Bus,
        leases: LeaseSource,
        runners: Runners,
        loop: WorkerLoop,
        identity: Identity,
        subscription: Subscription,
        *,
        known: Callable[[str], str],
        on_queue: Callable[[Mapping[str, int], Collection[int]], None],
        max_prompt_bytes: int,
        max_attempts: int = MAX_ATTEMPTS,
        begin_after_s: float = 0.0,
    ) -> None:
        self.loop = loop
        self._bus = bus
        self._leases = leases
        self._runners = runners
        self._identity = identity
        self._subscription = subscription
        self._on_queue = on_queue
        self._metrics = WorkerMetrics()
        self._clock = time.monotonic
        self._intake = Intake(
            known,
            self._clock,
            max_prompt_bytes=max_prompt_bytes,
            worker=identity.worker,
            max_attempts=max_attempts,
        )
        self._hands = Hands(max_attempts)
        self._begin_after_s = begin_after_s
        self._begins_at: float | None = None
        # Bounded by what feeds them: the bus's max_in_flight, one step, one lease, one tick.
        self._inbox: deque[Event] = deque()
        self._handling_soon = False
        # What is carried out is of no trace that an event came with.
        self._context = copy_context()
        self._outbox: asyncio.Queue[Finish | Loading | Text] = asyncio.Queue()
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._tasks: set[asyncio.Task[None]] = set()
        # Terminal events on their way.
        self._ending: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        # The lease that is waited for.
        self._asking: asyncio.Task[None] | None = None
        self.draining = False
        # The first failure of a task.
        self._failure: BaseException | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until drained. Raises what broke it."""
        with _quick_handovers():
            await self._run()

    async def _run(self) -> None:
        try:
            async with self._bus.parallel(self._subscription) as consumer:
                try:
                    self._taking = self._spawn(self._take(consumer))
                    self._spawn(self._follow_cancellations())
                    self._spawn(self._tick(consumer))
                    self._spawn(self._send(consumer))
                    await self._over.wait()
                finally:
                    await self._cancel_tasks()
            if self._failure is not None:
                raise self._failure
        finally:
            await asyncio.to_thread(self._close_engine)

    async def drain(self, grace_s: float) -> int:
        """Stops taking prompts, lets running ones end within the grace, hands back the others; `run` then returns.

        Returns how many were running.
        """
        running = len(self.loop.batch.live) if self.loop.batch else 0
        if not self.draining:
            self.draining = True
            if self._taking is not None:
                self._taking.cancel()
            self.post(lambda now: self.loop.drain())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._over.wait()
        self._over.set()
        return running

    def post(self, event: Event) -> None:
        """The event's function runs soon, together with others of this moment, with the time as its argument."""
        self._inbox.append(event)
        if not self._handling_soon:
            self._handling_soon = True
            asyncio.get_running_loop().call_soon(self._handle, context=self._context)

    def attached(self, epoch: int, tier_profile: str, bind: Callable[[], None]) -> None:
        """The tier manager answers. `bind` maps its arena: in the engine's thread, between two steps."""

        def event(now: float) -> list[Effect]:
            self._identity = replace(self._identity, tier_profile=tier_profile)
            self.between_steps(bind)
            return self.loop.on_attached(epoch)

        self.post(event)

    def between_steps(self, work: Callable[[], None]) -> None:
        """In the engine's thread. What it raises breaks the worker."""
        self._spawn(_result(asyncio.wrap_future(self._engine.submit(work))))

    def residency_changed(self, expert_id: str, nbytes: int, residency: Residency) -> None:
        self.post(partial(self.loop.on_residency, expert_id, nbytes, residency))

    # Events in.

    async def _take(self, consumer: ParallelConsumer) -> None:
        async for record in consumer:
            attempt = consumer.attempt(record)
            received = self._intake.receive(record, attempt)
            if isinstance(received, Prompt):
                await self._hands.room(attempt)
                self._hands.take(record, attempt)
                if self._begins_at is None:
                    self._begins_at = self._clock() + self._begin_after_s
                self.post(partial(self.loop.on_prompt, received))
                # Before the next one is handed out, for that counts.
                await self._hands.room()
            else:
                self._end(consumer, record, received)

    async def _follow_cancellations(self) -> None:
        async with self._bus.tail((topics.CANCELLATIONS,)) as records:
            async for record in records:
                with suppress(CoEError):
                    cancelled = codec.decode(record, events_pb2.PromptCancelled)
                    self.post(partial(self.loop.on_cancel, cancelled.request_id))

    async def _tick(self, consumer: ParallelConsumer) -> None:
        def look(now: float) -> list[Effect]:
            revoked = [prompt for prompt in self.loop.held() if consumer.revoked(prompt.record)]
            self.loop.on_revoked({prompt.key for prompt in revoked})
            for prompt in revoked:
                self._hands.drop(prompt.record)
            return self.loop.on_tick(now)

        while True:
            self.post(look)
            self._on_queue(self.loop.depths(), consumer.partitions)
            await asyncio.sleep(TICK_S)

    def _handle(self) -> None:
        self._handling_soon = False
        if self._over.is_set() or not self._inbox:
            return
        try:
            now, effects = self._clock(), list[Effect]()
            while self._inbox:
                effects += self._inbox.popleft()(now)
            if self._begins_at is not None and now >= self._begins_at:
                effects += self.loop.advance(now)
            for effect in effects:
                self._carry_out(effect)
            self._rest_if_done()
        except Exception as error:
            self._fail(error)

    # Effects out.

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Acquire():
                self._asking = self._spawn(self._acquire(effect))
            case Abandon():
                asking, self._asking = self._asking, None
                if asking is not None:
                    asking.cancel()
            case Release():
                self._spawn(self._leases.release(effect.grant))
            case Prefetch():
                self._spawn(self._leases.prefetch(effect))
            case Step():
                self._engine.submit(self._step, effect, asyncio.get_running_loop())
            case Discard():
                self._engine.submit(self._runners.discard, effect.expert_id)
            case Finish():
                self._outbox.put_nowait(effect)
            case Loading() | Text():
                if self._outbox.qsize() < MAX_CHUNKS:
                    self._outbox.put_nowait(effect)

    async def _acquire(self, wish: Acquire) -> None:
        asked_at = self._clock()
        prompt = self.loop.lease_is_for(wish.expert_id)
        try:
            with messaging.handling(prompt.record) if prompt is not None else nullcontext():
                grant = await self._leases.acquire(wish)
        except asyncio.CancelledError:
            if asyncio.current_task() is self._asking:
                raise
            _log.info("a lease is not wanted any more", expert=wish.expert_id)
        except CoEError as error:
            self.post(partial(self.loop.on_refused, wish.expert_id, error))
        else:
            self._metrics.granted(wish.expert_id, grant, self._clock() - asked_at)
            self.post(partial(self.loop.on_granted, wish.expert_id, grant))

    def _step(self, step: Step, loop: asyncio.AbstractEventLoop) -> None:
        """In the engine's thread, which waits for what comes of it: the way back is short."""
        try:
            done = self._runners.step(step)
        except BaseException as error:
            # Nobody looks at the future, and the loop would wait for the step for ever.
            loop.call_soon_threadsafe(self._fail, error)
        else:
            loop.call_soon_threadsafe(self._stepped, done, context=self._context)

    def _stepped(self, done: StepDone) -> None:
        self._inbox.append(partial(self.loop.on_step, done))
        self._handle()

    async def _send(self, consumer: ParallelConsumer) -> None:
        """In order: the chunks of an answer are with the broker's client before its end is on the way."""
        while True:
            effect = await self._outbox.get()
            if isinstance(effect, Finish):
                record = effect.prompt.record
                self._metrics.finished(effect, messaging.record_span(record))
                self._end(consumer, record, outcome(effect, self._identity, time.time_ns() // 1_000_000))
                continue
            try:
                with messaging.handling(effect.prompt.record):
                    await self._bus.publisher.post(chunk(effect))
            except CoEError as error:
                _log.warning("a stream chunk was not sent", request=effect.prompt.request_id, reason=error.message)

    def _end(self, consumer: ParallelConsumer, record: Record, result: Outcome) -> None:
        task = self._spawn(self._complete(consumer, record, result))
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ending.discard(task)
        if self.draining:
            # The loop may have been at rest already, waiting for this.
            self.post(lambda now: [])

    async def _complete(self, consumer: ParallelConsumer, record: Record, result: Outcome) -> None:
        if not await consumer.complete(record, result):
            _log.info("a prompt went to another worker", partition=record.partition, offset=record.offset)
        self._hands.drop(record)

    # Life of the tasks.

    def _spawn(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """A task whose failure breaks the worker."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Nobody asked for it: a client let a cancellation of its own out. Better to end than to fall silent.
            if not self.draining and not self._over.is_set():
                self._fail(RuntimeError("a task of the worker was cancelled from within"))
        elif (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._over.set()

    def _rest_if_done(self) -> None:
        if self.draining and self.loop.idle and self._outbox.empty() and not self._ending:
            self._over.set()

    async def _cancel_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close_engine(self) -> None:
        """Waits for the step under way."""
        self._engine.submit(self._runners.close)
        self._engine.shutdown(wait=True)


@contextmanager
def _quick_handovers() -> Iterator[None]:
    """The engine's thread must not wait for the interpreter while the loop's sends what the step before drew."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(HANDOVER_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def _result(future: "asyncio.Future[None]") -> None:
    await future
