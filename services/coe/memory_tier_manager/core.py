"""The core of the manager: events in, effects out. No I/O, no clock, no waiting.

It dispatches each event to the part that decides: `admission` (leases), `upkeep` (prefetches, pins, time to live) or
`weights` (loads and copies). Invariants that no policy can override:

* An expert with a lease, a load or a waiting request is not evicted. A pinned expert at most moves within HBM.
* An expert has at most one copy in progress.
* Every request is answered exactly once.
* Requests that need room are served in order of arrival.
"""

from collections.abc import Callable, Mapping

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import integrity
from coe.memory_tier_manager.admission import Admission
from coe.memory_tier_manager.eviction import EvictionPolicy
from coe.memory_tier_manager.hbm import HbmEntry
from coe.memory_tier_manager.requests import Limits, Pending
from coe.memory_tier_manager.state import TierState
from coe.memory_tier_manager.tiers import State
from coe.memory_tier_manager.upkeep import Upkeep
from coe.memory_tier_manager.versions import name_of
from coe.platform import errors

# Events after which the link may be idle, or a retry may be due.
_QUIET = frozenset((ev.CopyEnded, ev.Freed, ev.Tick))


class Tiers:
    """`first_lease`: where lease ids start, so that they differ from those of a manager that died."""

    def __init__(
        self,
        limits: Limits,
        policy: EvictionPolicy,
        defaults: Mapping[str, int] | None = None,
        first_lease: int = 1,
    ) -> None:
        self.state = state = TierState(limits, policy, defaults, first_lease)
        self.limits, self.defaults = state.limits, state.defaults
        self.hbm, self.ddr, self.weights = state.hbm, state.ddr, state.weights
        self.leases, self.pins, self.forecasts = state.leases, state.pins, state.forecasts
        self.attached: dict[str, int] = {}
        self._admission = Admission(state)
        self._upkeep = Upkeep(state)
        self._handlers: dict[type, Callable[..., None]] = {
            ev.Adopt: self._adopt,
            ev.Attach: self._attach,
            ev.Detach: self._detach,
            ev.Acquire: self._acquire,
            ev.CancelAcquire: self._cancel_acquire,
            ev.Release: self._release,
            ev.Prefetch: self._prefetch,
            ev.Pin: self._pin,
            ev.CopyStarted: self._copy_started,
            ev.CopyMoves: self._copy_moves,
            ev.CopyWaits: self._copy_waits,
            ev.CopyEnded: self._copy_ended,
            ev.Freed: self._freed,
            ev.InDdr: self._in_ddr,
            ev.Replaced: self._replaced,
            ev.Tick: self._tick,
        }

    def handle(self, event: ev.Event, now: float) -> list[fx.Effect]:
        """`now`: seconds on a monotonic clock. Perform the effects in order, before the next event."""
        self._handlers[type(event)](event, now)
        if self.state.former:
            self._upkeep.let_go(now)
        if self._admission.waits:
            self._admission.serve(now)
            self._admission.recall(now)
        if self._upkeep.waits and not self._admission.line:
            self._upkeep.serve(now)
        if type(event) in _QUIET and not self._admission.line:
            self._upkeep.keep_parts(now)
        self.weights.next_copy(now)
        effects = list(self.state.out)
        self.state.out.clear()
        return effects

    @property
    def pending(self) -> Mapping[int, Pending]:
        """Acquires not answered yet."""
        return self._admission.pending

    def take_used(self) -> set[str]:
        """Experts whose number of leases changed since the last call. Watchers are not notified of such changes."""
        used = set(self.state.used)
        self.state.used.clear()
        return used

    @property
    def hits_and_misses(self) -> tuple[int, int]:
        """The number of leases whose expert was in HBM when requested, and of those whose expert was not."""
        return self.state.hits, self.state.misses

    @property
    def idle(self) -> bool:
        """Whether no request is pending and nothing is loading or being freed."""
        return not self.pending and all(entry.state is State.RESIDENT for entry in self.hbm.entries.values())

    def check_integrity(self) -> None:
        """Raises AssertionError if the state is inconsistent. Cheap enough to run whenever the manager is idle."""
        integrity.check(self.weights, self.leases, self.attached)
        self._admission.check_integrity()

    # Workers

    def _adopt(self, event: ev.Adopt, now: float) -> None:
        for found in event.residents:
            self.hbm.adopt(found.expert, found.nbytes, found.slot, found.offset, found.generation, now)
            self.state.unclaimed.add(found.expert)
            self.state.out.append(fx.Changed(found.expert))
        self.state.claims_end = now + self.limits.claim_s

    def _attach(self, event: ev.Attach, now: float) -> None:
        if event.worker in self.attached:
            self._detach(ev.Detach(event.worker, self.attached[event.worker]), now)
        self.attached[event.worker] = event.attachment
        for held in event.held:
            entry = self.hbm.entries.get(held.expert)
            if (
                entry is not None
                and entry.joinable
                and (entry.slot, entry.generation) == (held.slot, held.generation)
                and self.leases.restore(held.lease, event.worker, held.expert)
            ):
                self._used(held.expert, now)

    def _detach(self, event: ev.Detach, now: float) -> None:
        if self.attached.get(event.worker) != event.attachment:
            return
        del self.attached[event.worker]
        self.forecasts.forget(event.worker)
        self._admission.refuse_all_of(event.worker)
        for lease in self.leases.of_worker(event.worker):
            self.leases.end(lease.lease)
            self._used(lease.expert, now)

    # Requests

    def _acquire(self, event: ev.Acquire, now: float) -> None:
        self._admission.ask(event, now, self.attached)

    def _cancel_acquire(self, event: ev.CancelAcquire, now: float) -> None:
        if event.request in self.pending:
            self._admission.refuse(event.request, errors.Cancelled("the caller withdrew the request"))

    def _release(self, event: ev.Release, now: float) -> None:
        lease = self.leases.end(event.lease, event.worker)
        if lease is not None:
            self._used(lease.expert, now)

    def _used(self, expert: str, now: float) -> None:
        entry = self.hbm.entries.get(expert)
        if entry is not None:
            entry.last_used = now
            self.state.used.add(expert)

    def _prefetch(self, event: ev.Prefetch, now: float) -> None:
        if event.worker in self.attached:
            # Only attached workers: the forecast of any other would never be removed.
            self.forecasts.update(event.worker, event.forecast, now)
        self._upkeep.prefetch(event, now, self._admission.wanted())

    def _pin(self, event: ev.Pin, now: float) -> None:
        self._upkeep.pin(event)

    # Results of effects

    def _copy_started(self, event: ev.CopyStarted, now: float) -> None:
        entry = self.hbm.entries[event.expert]
        entry.generation = event.generation
        if entry.state is State.LOADING:
            self._admission.answer(entry)
            self.weights.changed(entry)

    def _copy_moves(self, event: ev.CopyMoves, now: float) -> None:
        entry = self.hbm.entries.get(event.expert)
        if entry is not None and entry.generation == event.generation and entry.state is State.LOADING:
            entry.moves = True
            self._admission.answer(entry)

    def _copy_waits(self, event: ev.CopyWaits, now: float) -> None:
        entry = self.hbm.entries.get(event.expert)
        if entry is not None and (entry.generation or 0) == event.generation:
            self.hbm.step_aside(event.expert)

    def _copy_ended(self, event: ev.CopyEnded, now: float) -> None:
        entry = self.weights.copy_ended(event.expert, now, whole=event.error is None)
        if entry.state is State.RESIDENT:
            self._admission.answer(entry)
        elif event.error is not None:
            self._fail(entry, event.error, now)

    def _fail(self, entry: HbmEntry, error: errors.CoEError, now: float) -> None:
        self._upkeep.failed(entry.expert, now)
        self._admission.fail(entry, error)

    def _freed(self, event: ev.Freed, now: float) -> None:
        self.weights.freed(event.expert)

    def _in_ddr(self, event: ev.InDdr, now: float) -> None:
        self.weights.read_into_ddr(event.expert, ok=event.ok)

    def _replaced(self, event: ev.Replaced, now: float) -> None:
        self._upkeep.replaced(event)
        if event.by != event.expert:
            expert = name_of(event.expert)
            error = (
                errors.TierLoadError(f"{expert} was reimported meanwhile: try again", expert=expert)
                if event.by
                else errors.ExpertNotFound(f"expert {expert!r} is not hosted here", expert_id=expert)
            )
            self._admission.refuse_all_for(event.expert, error)

    # Time

    def _tick(self, event: ev.Tick, now: float) -> None:
        self._admission.refuse_late(now)
        for entry in list(self.hbm.entries.values()):
            if now - entry.since > self.limits.load_timeout_s and not entry.hangs:
                self._too_slow(entry, now)
        if self.state.unclaimed and now >= self.state.claims_end:
            self.state.unclaimed.clear()
        self._upkeep.expire(now, self._admission.wanted())

    def _too_slow(self, entry: HbmEntry, now: float) -> None:
        """Times out a load whose copy is too slow, or that can't begin because too many copies wait for their disks."""
        if entry.state is State.RESIDENT or not (entry.copying or not self.weights.may_start(entry)):
            return
        expert, loading = name_of(entry.source), entry.state is State.LOADING
        if loading:
            message = f"loading {expert} took more than {self.limits.load_timeout_s:g} s (COE_TIERS_LOAD_TIMEOUT_S)"
            if not entry.copying:
                waiting = len(self.hbm.aside)
                message = f"cannot start loading {expert}: {waiting} copies wait for disks that are not responding"
            error = errors.TierLoadError(message, expert=expert)
            self._fail(entry, error, now)
            self.state.out.append(fx.TimedOut(expert, error))
        if entry.copying:
            # Free the link for other copies, whatever becomes of this one.
            entry.hangs = True
            self.hbm.step_aside(entry.expert)
        if loading:
            self.weights.cancel_load(entry)
            self.weights.changed(entry)
