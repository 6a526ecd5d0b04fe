"""The I/O around the state machine: feeds WorkerLoop events and carries out its effects.

Events come from the assignments and cancellations topics, the engine's thread, the tier client and a timer. They are
queued in an inbox and handled in bursts on the event loop, so the state machine needs no locks. Effects go to the lease
source, the engine and the outbox.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial

from coe._proto import events_pb2
from coe.expert_worker.batch import Sequence
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
from coe.expert_worker.engine_thread import EngineThread, quick_handovers
from coe.expert_worker.hands import Hands
from coe.expert_worker.intake import MAX_ATTEMPTS, Intake
from coe.expert_worker.life import Life
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.metrics import WorkerMetrics
from coe.expert_worker.outbox import Outbox
from coe.expert_worker.outcome import Identity
from coe.expert_worker.prompt import Prompt
from coe.expert_worker.runners import Runners
from coe.expert_worker.watchdog import Watchdog
from coe.platform import logs, topics
from coe.platform.bus import codec
from coe.platform.bus.api import Bus, ParallelConsumer, Subscription
from coe.platform.errors import CoEError
from coe.platform.telemetry import messaging

_log = logs.get(__name__)
# Seconds between checks for passed deadlines, revoked partitions and a hanging step.
TICK_S = 0.25
# How many prompts of a hanging step the log names.
MAX_NAMED = 8

Event = Callable[[float], list[Effect]]


class Worker:
    """`known` returns the identity of an expert's bundle, or raises CoEError if the expert can't run here.

    `on_queue` is called every TICK_S with the number of prompts, waiting or running, per expert, and the worker's
    partitions.
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
        watchdog: Watchdog | None = None,
    ) -> None:
        self.loop = loop
        self._bus = bus
        self._leases = leases
        self._subscription = subscription
        self._on_queue = on_queue
        self._watchdog = watchdog or Watchdog()
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
        # Bounded by its sources: the bus's max_in_flight, one step, one lease, one tick.
        self._inbox: deque[Event] = deque()
        self._handling_soon = False
        # Effects run in this context, so that they don't inherit the trace of the event that caused them.
        self._context = copy_context()
        self._life = Life()
        self._outbox = Outbox(bus, identity, self._metrics, self._life, self._hands, self._ended)
        self._engine = EngineThread(runners, self._stepped, self._life.fail)
        self._taking: asyncio.Task[None] | None = None
        # The sequences in the last step when it began. One cancelled since may still be the one the step hangs on.
        self._in_step: list[Sequence] = []
        # The request for the pending lease.
        self._asking: asyncio.Task[None] | None = None

    @property
    def draining(self) -> bool:
        return self._life.draining

    async def run(self) -> None:
        """Runs until drained. Raises the failure that stopped the worker, if any."""
        with quick_handovers(), self._watchdog.watching():
            try:
                async with self._bus.parallel(self._subscription) as consumer:
                    try:
                        self._taking = self._life.spawn(self._take(consumer))
                        self._life.spawn(self._follow_cancellations())
                        self._life.spawn(self._tick(consumer))
                        self._life.spawn(self._outbox.send(consumer))
                        await self._life.over.wait()
                    finally:
                        await self._life.end_tasks()
                self._life.check()
            finally:
                await asyncio.to_thread(self._engine.close)

    async def drain(self, grace_s: float) -> int:
        """Stops taking prompts, hands back those that have not started, and lets running ones finish within the grace
        period. `run` then returns. Returns how many were running.
        """
        running = len(self.loop.batch.live) if self.loop.batch else 0
        if not self.draining:
            self._life.draining = True
            if self._taking is not None:
                self._taking.cancel()
            self.post(lambda now: self.loop.drain())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._life.over.wait()
        self._life.over.set()
        return running

    def post(self, event: Event) -> None:
        """Schedules the event's function, to be called with the current time, together with other pending events."""
        self._engine.interrupt()
        self._inbox.append(event)
        if not self._handling_soon:
            self._handling_soon = True
            asyncio.get_running_loop().call_soon(self._handle, context=self._context)

    def attached(self, epoch: int, tier_profile: str, bind: Callable[[], None]) -> None:
        """Attached to the tier manager. `bind` maps its arena, in the engine's thread between two steps."""

        def event(now: float) -> list[Effect]:
            self._outbox.identity = replace(self._outbox.identity, tier_profile=tier_profile)
            self.between_steps(bind)
            return self.loop.on_attached(epoch)

        self.post(event)

    def between_steps(self, work: Callable[[], None]) -> None:
        """Runs `work` in the engine's thread between two steps. An exception it raises stops the worker."""
        self._life.spawn(self._engine.between_steps(work))

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
                # Start only once the attempt is recorded: the prompt may crash the worker at its first step, and the
                # next worker must know that we had it.
                if (counted := consumer.counted(record)) is None:
                    self.post(partial(self.loop.on_prompt, received))
                else:
                    counted.add_done_callback(partial(self._come, received))
                # Wait before asking for the next record: being handed out counts as an attempt.
                await self._hands.room()
            else:
                self._outbox.end(consumer, record, received)

    def _come(self, prompt: Prompt, _counted: "asyncio.Future[None]") -> None:
        if not self.draining:
            self.post(partial(self.loop.on_prompt, prompt))

    async def _follow_cancellations(self) -> None:
        async with self._bus.tail((topics.CANCELLATIONS,)) as records:
            async for record in records:
                with suppress(CoEError):
                    cancelled = codec.decode(record, events_pb2.PromptCancelled)
                    self.post(partial(self.loop.on_cancel, cancelled.request_id))

    async def _tick(self, consumer: ParallelConsumer) -> None:
        def look(now: float) -> list[Effect]:
            self._watchdog.look(self.loop.step_s(now), self._step_facts)
            revoked = [prompt for prompt in self.loop.held() if consumer.revoked(prompt.record)]
            self.loop.on_revoked({prompt.key for prompt in revoked})
            for prompt in revoked:
                self._hands.drop(prompt.record)
            return self.loop.on_tick(now)

        while True:
            self.post(look)
            self._on_queue(self.loop.depths(), consumer.partitions)
            await asyncio.sleep(TICK_S)

    def _step_facts(self) -> dict[str, object]:
        batch = self.loop.batch
        return {
            "expert": batch.expert_id if batch is not None else None,
            "prompts": len(self._in_step),
            "request_ids": [sequence.prompt.request_id for sequence in self._in_step[:MAX_NAMED]],
            "stack": self._engine.stack(),
        }

    def _stepped(self, done: StepDone) -> None:
        self._inbox.append(partial(self.loop.on_step, done))
        self._handle()
        if done.went_on:
            ended = {emission.request_id for emission in done.emissions if emission.finish_reason is not None}
            self._in_step = [sequence for sequence in self._in_step if sequence.prompt.key not in ended]
            if self.loop.is_overdue(self._clock()):
                self._engine.interrupt()

    def _ended(self) -> None:
        if self.draining:
            # Wakes the loop, which may be idle already and waiting only for this.
            self.post(lambda now: [])

    def _handle(self) -> None:
        self._handling_soon = False
        if self._life.over.is_set() or not self._inbox:
            return
        try:
            now, effects = self._clock(), list[Effect]()
            while self._inbox:
                effects += self._inbox.popleft()(now)
            effects += self.loop.advance(now)
            for effect in effects:
                self._carry_out(effect)
            if self.draining and self.loop.idle and self._outbox.empty:
                self._life.over.set()
        except Exception as error:
            self._life.fail(error)

    # Effects out.

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Acquire():
                self._asking = self._life.spawn(self._acquire(effect))
            case Abandon():
                asking, self._asking = self._asking, None
                if asking is not None:
                    asking.cancel()
            case Release():
                self._life.spawn(self._leases.release(effect.grant))
            case Prefetch():
                self._life.spawn(self._leases.prefetch(effect))
            case Step():
                self._in_step = list(self.loop.batch.live.values()) if self.loop.batch is not None else []
                self._engine.step(effect)
            case Discard():
                self._engine.discard(effect.expert_id)
            case Finish() | Loading() | Text():
                self._outbox.put(effect)

    async def _acquire(self, wish: Acquire) -> None:
        asked_at = self._clock()
        prompt = self.loop.lease_is_for(wish.expert_id)
        try:
            with messaging.handling(prompt.record) if prompt is not None else nullcontext():
                grant = await self._leases.acquire(wish)
        except asyncio.CancelledError:
            if asyncio.current_task() is self._asking:
                raise
            _log.info("pending lease request abandoned", expert=wish.expert_id)
        except CoEError as error:
            self.post(partial(self.loop.on_refused, wish.expert_id, error))
        else:
            self._metrics.granted(wish.expert_id, grant, self._clock() - asked_at)
            self.post(partial(self.loop.on_granted, wish.expert_id, grant))
