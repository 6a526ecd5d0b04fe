"""Performs copies into HBM. Each opens its file, then runs on the arena's threads, watched by a thread of its own."""

import threading
import time
from functools import partial

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.arena import Arena, Copy, Source
from coe.memory_tier_manager.ddr_reads import DdrReads
from coe.memory_tier_manager.feedback import Feedback
from coe.memory_tier_manager.hbm import Hbm
from coe.memory_tier_manager.sources import Sources
from coe.platform import logs
from coe.platform.errors import Cancelled, CoEError, TierLoadError

_log = logs.get(__name__)
# How soon to check a copy whose first bytes are awaited.
FIRST_LOOK_S = 0.001
# Fraction of the link's rate that a copy from memory reaches even on a busy machine.
SLOW = 0.125


class Copies:
    """Performs StartCopy and CancelCopy, in the loop's thread.

    `patience_s`: a copy that stays below SLOW times the link's rate for this long is taken to be waiting for its disk.
    """

    def __init__(
        self, hbm: Hbm, arena: Arena, sources: Sources, reads: DdrReads, feedback: Feedback, patience_s: float
    ) -> None:
        self._hbm = hbm
        self._arena = arena
        self._sources = sources
        self._reads = reads
        self._feedback = feedback
        self._patience_s = patience_s
        # Copies whose files are being opened, the cancelled ones among them, and copies in progress.
        self._opening: dict[str, fx.StartCopy] = {}
        self._cancelled: set[str] = set()
        self._running: dict[str, Copy] = {}
        # The highest rate seen so far, in bytes per second.
        self._link_rate = 0.0
        self._stopped = False

    @property
    def running(self) -> bool:
        return bool(self._running)

    def start(self, effect: fx.StartCopy) -> None:
        self._opening[effect.expert] = effect
        self._sources.when_open(effect.source, partial(self._begin, effect))
        if effect.expert in self._opening:
            self._feedback.loop.call_later(self._patience_s, self._opens_slowly, effect)

    def cancel(self, expert: str) -> None:
        if expert in self._opening:
            self._cancelled.add(expert)
        else:
            self._running[expert].cancel()

    def stop(self) -> None:
        """Cancels all copies and starts no more; `running` tells when the last one has ended."""
        self._stopped = True
        for copy in self._running.values():
            copy.cancel()

    def _opens_slowly(self, effect: fx.StartCopy) -> None:
        if self._opening.get(effect.expert) is effect and self._hbm.copying == effect.expert:
            _log.warning("copy is waiting for its file to open", expert=effect.expert)
            self._feedback.post(ev.CopyWaits(effect.expert, 0))

    def _begin(self, effect: fx.StartCopy, source: Source | CoEError) -> None:
        expert = effect.expert
        del self._opening[expert]
        self._feedback.ended.set()
        try:
            copy = self._started(effect, source)
        except CoEError as error:
            cancelled = expert in self._cancelled
            self._cancelled.discard(expert)
            self._feedback.post(ev.CopyEnded(expert, 0, None if cancelled else error))
            self._reads.close_unused(effect.source)
            return
        except Exception as error:
            self._feedback.fail(error)
            raise
        self._running[expert] = copy
        self._feedback.post(ev.CopyStarted(expert, copy.generation))
        threading.Thread(target=self._await, args=(effect, copy), name="tiers-copy", daemon=True).start()

    def _started(self, effect: fx.StartCopy, source: Source | CoEError) -> Copy:
        expert = effect.expert
        if expert in self._cancelled or self._stopped:
            raise Cancelled("the load was cancelled, or the memory-tier manager is shutting down")
        if isinstance(source, CoEError):
            raise source
        if not effect.part_of and source.nbytes != effect.nbytes:
            self._reads.forget(effect.source)
            raise TierLoadError(f"{expert} was reimported meanwhile: try again", expert=expert)
        nbytes = effect.nbytes if effect.part_of else None
        return self._arena.copy(effect.slot, effect.offset, source, nbytes, effect.part_slot)

    def _await(self, effect: fx.StartCopy, copy: Copy) -> None:
        """Watches the copy, in a thread of its own."""
        watched, moved = effect.watched, 0
        looked_at, pause = time.monotonic(), FIRST_LOOK_S if watched else self._patience_s
        while not copy.wait(pause):
            if self._feedback.over:
                return
            now, bytes_copied = time.monotonic(), copy.bytes_copied
            if watched and bytes_copied:
                watched = False
                self._feedback.tell(self._feedback.post, ev.CopyMoves(effect.expert, copy.generation))
            if now - looked_at >= self._patience_s:
                self._feedback.tell(self._pace, effect, copy, (bytes_copied - moved) / (now - looked_at))
                looked_at, moved = now, bytes_copied
            # Back off: the longer the first bytes take, the less it matters to notice them a fifth later.
            pause = min(1.25 * pause, self._patience_s) if watched else self._patience_s
        self._feedback.tell(self._over, effect, copy)

    def _pace(self, effect: fx.StartCopy, copy: Copy, rate: float) -> None:
        self._link_rate = max(self._link_rate, rate)
        if rate <= SLOW * self._link_rate and self._hbm.copying == effect.expert:
            _log.warning("copy is waiting for its disk", expert=effect.expert, bytes_per_s=round(rate))
            self._feedback.post(ev.CopyWaits(effect.expert, copy.generation))

    def _over(self, effect: fx.StartCopy, copy: Copy) -> None:
        expert = effect.expert
        del self._running[expert]
        self._feedback.ended.set()
        failure = copy.failure
        if failure is None:
            if not effect.part_of:
                self._sources[expert].loaded()
        elif not isinstance(failure, CoEError):
            failure = TierLoadError(f"copying {expert} into HBM failed: {failure}", expert=expert)
        cancelled = not self._hbm.entries[expert].joinable
        if failure is not None and not cancelled:
            self._reads.forget(effect.source)
        self._feedback.post(ev.CopyEnded(expert, copy.generation, None if cancelled else failure))
        self._reads.close_unused(effect.source)
