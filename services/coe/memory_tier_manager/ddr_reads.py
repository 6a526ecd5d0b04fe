"""Reads and locks the DDR tier's weights files, in threads, and closes files that the tier no longer holds."""

from functools import partial

from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.arena import Source
from coe.memory_tier_manager.ddr import DdrTier
from coe.memory_tier_manager.disk_threads import DiskThreads
from coe.memory_tier_manager.feedback import Feedback
from coe.memory_tier_manager.sources import Sources
from coe.platform import logs
from coe.platform.errors import Cancelled, CoEError, InternalError

_log = logs.get(__name__)


class DdrReads:
    """Performs ReadIntoDdr, in the loop's thread. `threads`: the reads by expert; one that takes more than
    `patience_s` counts as hanging."""

    def __init__(self, ddr: DdrTier, sources: Sources, feedback: Feedback, patience_s: float) -> None:
        self._ddr = ddr
        self._sources = sources
        self._feedback = feedback
        self.threads = DiskThreads(patience_s=patience_s)
        # Experts whose copy failed while they were being read: they must not stay in DDR.
        self._spoiled: set[str] = set()
        self._stopped = False

    def stop(self) -> None:
        """Starts no more reads; `threads` tells which are still running."""
        self._stopped = True
        self.threads.stop()

    def start(self, expert: str) -> None:
        self._sources.when_open(expert, partial(self._begin, expert))

    def forget(self, expert: str) -> None:
        """Makes the next load reopen the file: it could not be copied, or belongs to an older bundle of the expert."""
        if self._ddr.has(expert):
            self._feedback.post(ev.InDdr(expert, ok=False))
        elif expert in self._ddr.entries:
            self._spoiled.add(expert)
        self.close_unused(expert)

    def close_unused(self, expert: str) -> None:
        """Closes the file, unless the DDR tier holds it or is reading it."""
        if expert not in self._ddr.entries:
            self._sources.close_one(expert)

    def _begin(self, expert: str, source: Source | CoEError) -> None:
        self._feedback.ended.set()
        if self._stopped:
            source = Cancelled("the memory-tier manager is shutting down")
        if isinstance(source, CoEError):
            _log.warning("cannot read an expert into DDR", expert=expert, reason=source.message)
            self._feedback.post(ev.InDdr(expert, ok=False))
            return
        self.threads.submit(expert, partial(self._lock, expert, source), partial(self._refused, expert))

    def _refused(self, expert: str) -> None:
        self._spoiled.discard(expert)
        _log.error("not reading an expert into DDR: too many reads hang", expert=expert, hanging=self.threads.hanging)
        self._feedback.loop.call_soon(self._feedback.post, ev.InDdr(expert, ok=False))

    def _lock(self, expert: str, source: Source) -> None:
        """Reads the file, in a thread of its own."""
        try:
            source.lock()
            ok = True
        except (CoEError, ValueError) as error:
            _log.warning("cannot read an expert into DDR", expert=expert, reason=str(error))
            ok = False
        except Exception as error:
            self._feedback.tell(self._feedback.fail, InternalError(f"reading {expert} failed: {error}"))
            return
        self._feedback.tell(self._over, expert, ok)

    def _over(self, expert: str, ok: bool) -> None:
        self.threads.ended(expert)
        self._feedback.ended.set()
        spoiled = expert in self._spoiled
        self._spoiled.discard(expert)
        self._feedback.post(ev.InDdr(expert, ok=ok and not spoiled))
