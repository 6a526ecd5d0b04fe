"""The run loop: takes events one at a time, performs the core's effects, feeds back what came of them.

Everything runs in one asyncio thread. Copies, disk reads and whatever asks a file system run elsewhere (native threads,
and threads that wait for them); their ends come back as events. A disk that does not answer keeps those threads, a
bounded number of them, and nothing else: the link and the loop are free for others.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.arena import Arena, Copy, Source
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.disk_reads import DiskReads
from coe.memory_tier_manager.looks import Looks
from coe.memory_tier_manager.sources import Opener, Sources
from coe.memory_tier_manager.versions import name_of
from coe.platform import logs
from coe.platform.errors import Cancelled, CoEError, InternalError, TierLoadError, Unavailable

_log = logs.get(__name__)
Answer = fx.Grant | fx.Prefetched | fx.Done
OnAnswer = Callable[[Answer | CoEError], None]
Observer = Callable[[ev.Event | fx.Effect, float], None]
PATIENCE_S = 0.2
# How soon a copy is looked at whose first bytes somebody waits for.
FIRST_LOOK_S = 0.001
# Of the link's rate: what a copy from memory moves though the machine be busy.
SLOW = 0.125
# How long the end waits for copies and reads that have been cancelled.
CLOSE_S = 5.0


class Runtime:
    """`observe` sees every event and effect (views, metrics, event log); it must not call back.

    `patience_s`: a copy that moves for so long less than SLOW of what the link can waits for its disk. `looks`: by
    which files are opened.
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
        self._sources = Sources(library, self._looks)
        self._observe = observe
        self._requests = itertools.count(1)
        self._answers: dict[int, OnAnswer] = {}
        # Copies whose files are being opened, those among them that are cancelled, and those under way.
        self._opening: dict[str, fx.StartCopy] = {}
        self._cancelled: set[str] = set()
        self._copies: dict[str, Copy] = {}
        # What is being read into DDR, and could not be copied meanwhile: it does not stay there.
        self._spoiled: set[str] = set()
        self._inbox: deque[ev.Event] = deque()
        self._running = False
        self._closing = False
        # Something happened since the state was last checked.
        self._unchecked = False
        self._reads = DiskReads(patience_s=tiers.limits.load_timeout_s)
        self._patience_s = patience_s
        # Bytes a second: the most that a copy was seen to move.
        self._link_rate = 0.0
        # Nobody waits for copies any more.
        self._over = threading.Event()
        # A copy or a read has ended.
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()

    def has(self, expert: str) -> bool:
        """It is in HBM, or on its way there."""
        entry = self._tiers.hbm.entries.get(expert)
        return entry is not None and entry.joinable

    def next_request(self) -> int:
        return next(self._requests)

    def post(self, event: ev.Event) -> None:
        """Handles the event before it returns, unless another one is being handled: then right after that one."""
        self._inbox.append(event)
        if self._running:
            return
        self._running = True
        try:
            while self._inbox:
                self._handle(self._inbox.popleft())
        except Exception as error:
            # The state may contradict itself now: the process ends, a fresh one starts from an empty arena.
            if not self._failure.done():
                self._failure.set_exception(error)
            raise
        finally:
            self._running = False

    def begin(self, event: ev.Acquire | ev.Prefetch | ev.Pin, on_answer: OnAnswer) -> None:
        """Posts a request. `on_answer` hears its answer once, maybe before this returns; it must not raise.

        `take_back` the request when nobody wants the answer any more.
        """
        self._answers[event.request] = on_answer
        self.post(event)

    async def ask(self, event: ev.Acquire | ev.Prefetch | ev.Pin) -> Answer:
        """Posts a request and waits for its answer. Raises CoEError; when cancelled, takes the request back."""
        answer: asyncio.Future[Answer | CoEError] = self._loop.create_future()

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
        """Until cancelled. Raises when the loop met an error of its own."""
        while True:
            await asyncio.wait({self._failure}, timeout=tick_s)
            if self._failure.done():
                self._failure.result()
            self._reads.look()
            self._looks.look()
            self.post(ev.Tick())
            if self._unchecked and self._tiers.idle:
                self._tiers.check_integrity()
                self._unchecked = False

    async def close(self) -> None:
        """Stops copies and closes files; the arena is its owner's."""
        self._closing = True
        while self._answers:
            # Who asked may ask the next manager.
            self._resolve(next(iter(self._answers)), Unavailable("the memory-tier manager stops"))
        for copy in self._copies.values():
            copy.cancel()
        self._reads.stop()
        self._looks.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._copies or self._reads.running or self._sources.opening:
                    self._ended.clear()
                    await self._ended.wait()
        self._over.set()
        self._sources.close(but=self._reads.running)
        self._failure.cancel()

    @property
    def disk_waits(self) -> int:
        """Copies, reads and questions that wait for disks which don't answer."""
        return len(self._tiers.hbm.aside) + self._reads.hanging + self._looks.hanging

    def take_back(self, event: ev.Acquire | ev.Prefetch | ev.Pin) -> None:
        """The caller is gone before its answer: a load that only it wanted is cancelled."""
        if self._answers.pop(event.request, None) is not None:
            self.post(ev.CancelAcquire(event.request))

    def _give_back(self, result: Answer | CoEError) -> None:
        """The caller left in the moment of its answer."""
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
                self._start_copy(effect)
            case fx.CancelCopy():
                self._cancel_copy(effect.expert)
            case fx.Free():
                self._free(effect)
            case fx.ReadIntoDdr():
                self._sources.when_open(effect.expert, partial(self._begin_read, effect.expert))
            case fx.DropFromDdr():
                self._sources.close_one(effect.expert)
            case fx.TimedOut():
                _log.error("a load took too long", expert=effect.expert, reason=effect.error.message)
            case fx.PinHeld():
                tell = _log.info if effect.held else _log.warning
                what = "fits again" if effect.held else "does not fit beside the other pins any more: it waits for room"
                tell(f"a pin {what}", expert=name_of(effect.expert), bytes=effect.nbytes)
            case fx.Changed() | fx.Evicted():
                pass

    def _resolve(self, request: int, result: Answer | CoEError) -> None:
        on_answer = self._answers.pop(request, None)
        if on_answer is not None:
            on_answer(result)
        else:
            self._give_back(result)

    def _start_copy(self, effect: fx.StartCopy) -> None:
        self._opening[effect.expert] = effect
        self._sources.when_open(effect.source, partial(self._begin_copy, effect))
        if effect.expert in self._opening:
            self._loop.call_later(self._patience_s, self._opens_slowly, effect)

    def _opens_slowly(self, effect: fx.StartCopy) -> None:
        if self._opening.get(effect.expert) is effect and self._tiers.hbm.copying == effect.expert:
            _log.warning("a copy waits for its file to open", expert=effect.expert)
            self.post(ev.CopyWaits(effect.expert, 0))

    def _begin_copy(self, effect: fx.StartCopy, source: Source | CoEError) -> None:
        expert = effect.expert
        del self._opening[expert]
        self._ended.set()
        try:
            if expert in self._cancelled or self._closing:
                raise Cancelled("the load was cancelled, or the memory-tier manager stops")
            if isinstance(source, CoEError):
                raise source
            if not effect.part_of and source.nbytes != effect.nbytes:
                self._forget(effect.source)
                raise TierLoadError(f"{expert} was imported anew meanwhile: try again", expert=expert)
            nbytes = effect.nbytes if effect.part_of else None
            copy = self._arena.copy(effect.slot, effect.offset, source, nbytes, effect.part_slot)
        except CoEError as error:
            cancelled = expert in self._cancelled
            self._cancelled.discard(expert)
            self.post(ev.CopyEnded(expert, 0, None if cancelled else error))
            self._close_unless_in_ddr(effect.source)
            return
        except Exception as error:
            self._fail(error)
            raise
        self._copies[expert] = copy
        self.post(ev.CopyStarted(expert, copy.generation))
        threading.Thread(target=self._await_copy, args=(effect, copy), name="tiers-copy", daemon=True).start()

    def _await_copy(self, effect: fx.StartCopy, copy: Copy) -> None:
        """In a thread of its own."""
        watched, moved = effect.watched, 0
        looked_at, pause = time.monotonic(), FIRST_LOOK_S if watched else self._patience_s
        while not copy.wait(pause):
            if self._over.is_set():
                return
            now, bytes_copied = time.monotonic(), copy.bytes_copied
            if watched and bytes_copied:
                watched = False
                self._tell(self.post, ev.CopyMoves(effect.expert, copy.generation))
            if now - looked_at >= self._patience_s:
                self._tell(self._copy_pace, effect, copy, (bytes_copied - moved) / (now - looked_at))
                looked_at, moved = now, bytes_copied
            # The longer the first bytes take, the less a look that is a fifth too late matters.
            pause = min(1.25 * pause, self._patience_s) if watched else self._patience_s
        self._tell(self._copy_over, effect, copy)

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        """From a thread. One that hung may find the loop gone."""
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            if not self._over.is_set():
                raise

    def _copy_pace(self, effect: fx.StartCopy, copy: Copy, rate: float) -> None:
        self._link_rate = max(self._link_rate, rate)
        if rate <= SLOW * self._link_rate and self._tiers.hbm.copying == effect.expert:
            _log.warning("a copy waits for its disk", expert=effect.expert, bytes_per_s=round(rate))
            self.post(ev.CopyWaits(effect.expert, copy.generation))

    def _copy_over(self, effect: fx.StartCopy, copy: Copy) -> None:
        expert = effect.expert
        del self._copies[expert]
        self._ended.set()
        failure = copy.failure
        if failure is None:
            if not effect.part_of:
                self._sources[expert].loaded()
        elif not isinstance(failure, CoEError):
            failure = TierLoadError(f"copying {expert} into HBM failed: {failure}", expert=expert)
        entry = self._tiers.hbm.entries[expert]
        cancelled = not entry.joinable
        if failure is not None and not cancelled:
            self._forget(effect.source)
        self.post(ev.CopyEnded(expert, copy.generation, None if cancelled else failure))
        self._close_unless_in_ddr(effect.source)

    def _cancel_copy(self, expert: str) -> None:
        if expert in self._opening:
            self._cancelled.add(expert)
        else:
            self._copies[expert].cancel()

    def _forget(self, expert: str) -> None:
        """Its file is to be opened anew: it could not be copied, or is that of a former bundle of the name."""
        if self._tiers.ddr.has(expert):
            self._inbox.append(ev.InDdr(expert, ok=False))
        elif expert in self._tiers.ddr.entries:
            self._spoiled.add(expert)
        self._close_unless_in_ddr(expert)

    def _close_unless_in_ddr(self, expert: str) -> None:
        if expert not in self._tiers.ddr.entries:
            self._sources.close_one(expert)

    def _free(self, effect: fx.Free) -> None:
        # A slot whose copy failed or was cancelled is free by itself.
        if self._arena.is_resident(effect.slot):
            self._arena.free(effect.slot)
        self._inbox.append(ev.Freed(effect.expert, effect.slot))

    def _begin_read(self, expert: str, source: Source | CoEError) -> None:
        if self._closing:
            source = Cancelled("the memory-tier manager stops")
        if isinstance(source, CoEError):
            _log.warning("an expert can't be read into DDR", expert=expert, reason=source.message)
            self.post(ev.InDdr(expert, ok=False))
            return
        self._reads.submit(expert, partial(self._lock, expert, source), partial(self._not_read, expert))

    def _not_read(self, expert: str) -> None:
        self._spoiled.discard(expert)
        _log.error("an expert is not read into DDR: too many reads hang", expert=expert, hanging=self._reads.hanging)
        self._loop.call_soon(self.post, ev.InDdr(expert, ok=False))

    def _lock(self, expert: str, source: Source) -> None:
        try:
            source.lock()
            ok = True
        except (CoEError, ValueError) as error:
            _log.warning("an expert can't be read into DDR", expert=expert, reason=str(error))
            ok = False
        except Exception as error:
            self._tell(self._fail, InternalError(f"reading {expert} failed: {error}"))
            return
        self._tell(self._read_over, expert, ok)

    def _read_over(self, expert: str, ok: bool) -> None:
        self._reads.ended(expert)
        self._ended.set()
        spoiled = expert in self._spoiled
        self._spoiled.discard(expert)
        self.post(ev.InDdr(expert, ok=ok and not spoiled))

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)
