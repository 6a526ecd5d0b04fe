"""The run loop: handles events one at a time, performs the core's effects, and feeds their results back as events.

It runs in one asyncio thread. Copies, disk reads and file-system lookups run elsewhere (in native threads, and threads
that wait for them), and their completion comes back as events. A disk that does not respond blocks a bounded number of
those threads and nothing else: link and loop stay free.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.arena import Arena
from coe.memory_tier_manager.copies import Copies
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.ddr_reads import DdrReads
from coe.memory_tier_manager.feedback import Feedback
from coe.memory_tier_manager.looks import Looks
from coe.memory_tier_manager.sources import Opener, Sources
from coe.memory_tier_manager.versions import name_of
from coe.platform import logs
from coe.platform.errors import CoEError, Unavailable

_log = logs.get(__name__)
Answer = fx.Grant | fx.Prefetched | fx.Done
OnAnswer = Callable[[Answer | CoEError], None]
Observer = Callable[[ev.Event | fx.Effect, float], None]
PATIENCE_S = 0.2
# How long `close` waits for cancelled copies and reads to end.
CLOSE_S = 5.0


class Runtime:
    """`observe` gets every event and effect (for views, metrics and the event log); it must not call back.

    `patience_s`: see Copies. `looks`: used to open files.
    """

    def __init__(
        self,
        tiers: Tiers,
        arena: Arena,
        library: Opener,
        observe: Observer,
        *,
        patience_s: float = PATIENCE_S,
        looks: Looks | None = None,
    ) -> None:
        self._tiers = tiers
        self._arena = arena
        self._looks = looks or Looks()
        self._observe = observe
        self._requests = itertools.count(1)
        self._answers: dict[int, OnAnswer] = {}
        self._inbox: deque[ev.Event] = deque()
        self._running = False
        # Whether anything has happened since the last integrity check.
        self._unchecked = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._feedback = Feedback(self.post, self._fail)
        self._sources = Sources(library, self._looks)
        self._reads = DdrReads(tiers.ddr, self._sources, self._feedback, tiers.limits.load_timeout_s)
        self._copies = Copies(tiers.hbm, arena, self._sources, self._reads, self._feedback, patience_s)

    def has(self, expert: str) -> bool:
        """Whether the expert is in HBM or loading into it."""
        entry = self._tiers.hbm.entries.get(expert)
        return entry is not None and entry.joinable

    def next_request(self) -> int:
        return next(self._requests)

    def post(self, event: ev.Event) -> None:
        """Handles the event before returning; if called while another event is handled, right after that one."""
        self._inbox.append(event)
        if self._running:
            return
        self._running = True
        try:
            while self._inbox:
                self._handle(self._inbox.popleft())
        except Exception as error:
            # The state may be inconsistent now, so the process exits and a new one starts over.
            self._fail(error)
            raise
        finally:
            self._running = False

    def begin(self, event: ev.Acquire | ev.Prefetch | ev.Pin, on_answer: OnAnswer) -> None:
        """Posts a request. `on_answer` gets its answer once, perhaps before this returns; it must not raise.

        Call `take_back` if the answer is no longer wanted.
        """
        self._answers[event.request] = on_answer
        self.post(event)

    async def ask(self, event: ev.Acquire | ev.Prefetch | ev.Pin) -> Answer:
        """Posts a request and waits for its answer. Raises CoEError. Withdraws the request if cancelled."""
        answer: asyncio.Future[Answer | CoEError] = asyncio.get_running_loop().create_future()

        def resolve(result: Answer | CoEError) -> None:
            if answer.done():
                self._give_back(result)
            else:
                answer.set_result(result)

        self.begin(event, resolve)
        try:
            result = answer.result() if answer.done() else await answer
        except asyncio.CancelledError:
            self.take_back(event)
            if not answer.cancelled():
                self._give_back(answer.result())
            raise
        if isinstance(result, CoEError):
            raise result
        return result

    async def run(self, tick_s: float = 0.25) -> None:
        """Ticks until cancelled. Raises an internal error of the loop."""
        while True:
            await asyncio.wait({self._failure}, timeout=tick_s)
            if self._failure.done():
                self._failure.result()
            self._reads.threads.look()
            self._looks.look()
            self.post(ev.Tick())
            if self._unchecked and self._tiers.idle:
                self._tiers.check_integrity()
                self._unchecked = False

    async def close(self) -> None:
        """Stops copies and closes files. Closing the arena is up to its owner."""
        while self._answers:
            # Retryable: the caller may ask the next manager.
            self._resolve(next(iter(self._answers)), Unavailable("the memory-tier manager is shutting down"))
        self._copies.stop()
        self._reads.stop()
        self._looks.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._copies.running or self._reads.threads.running or self._sources.opening:
                    self._feedback.ended.clear()
                    await self._feedback.ended.wait()
        self._feedback.end()
        self._sources.close(but=self._reads.threads.running)
        self._failure.cancel()

    @property
    def disk_waits(self) -> int:
        """The number of copies, reads and lookups waiting for disks that are not responding."""
        return len(self._tiers.hbm.aside) + self._reads.threads.hanging + self._looks.hanging

    def take_back(self, event: ev.Acquire | ev.Prefetch | ev.Pin) -> None:
        """Withdraws a request whose caller left before the answer; cancels a load that only it wanted."""
        if self._answers.pop(event.request, None) is not None:
            self.post(ev.CancelAcquire(event.request))

    def _give_back(self, result: Answer | CoEError) -> None:
        """Releases a granted lease whose caller has already left."""
        if isinstance(result, fx.Grant):
            self.post(ev.Release(result.worker, result.lease))

    def _handle(self, event: ev.Event) -> None:
        now = time.monotonic()
        self._unchecked = self._unchecked or type(event) is not ev.Tick
        self._observe(event, now)
        for effect in self._tiers.handle(event, now):
            self._observe(effect, now)
            self._perform(effect)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Grant() | fx.Prefetched() | fx.Done():
                self._resolve(effect.request, effect)
            case fx.Reject():
                self._resolve(effect.request, effect.error)
            case fx.StartCopy():
                self._copies.start(effect)
            case fx.CancelCopy():
                self._copies.cancel(effect.expert)
            case fx.Free():
                self._free(effect)
            case fx.ReadIntoDdr():
                self._reads.start(effect.expert)
            case fx.DropFromDdr():
                self._sources.close_one(effect.expert)
            case fx.TimedOut():
                _log.error("load timed out", expert=effect.expert, reason=effect.error.message)
            case fx.PinHeld():
                tell = _log.info if effect.held else _log.warning
                what = "fits again" if effect.held else "no longer fits alongside the other pins: it waits for room"
                tell(f"a pin {what}", expert=name_of(effect.expert), bytes=effect.nbytes)
            case fx.Changed() | fx.Evicted():
                pass

    def _resolve(self, request: int, result: Answer | CoEError) -> None:
        on_answer = self._answers.pop(request, None)
        if on_answer is not None:
            on_answer(result)
        else:
            self._give_back(result)

    def _free(self, effect: fx.Free) -> None:
        # A slot whose copy failed or was cancelled frees itself.
        if self._arena.is_resident(effect.slot):
            self._arena.free(effect.slot)
        self.post(ev.Freed(effect.expert, effect.slot))

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)
