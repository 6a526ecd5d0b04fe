"""The core of the manager: events in, effects out. No I/O, no clock, no waiting.

Rules that no policy can bend: an expert with a lease, a load, a waiting request or a pin is not evicted; one expert is
copied once at a time; every request is answered exactly once; requests that need room are served in their order.
"""

from collections.abc import Callable, Mapping

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import integrity
from coe.memory_tier_manager.ddr import DdrTier
from coe.memory_tier_manager.eviction import Candidate, EvictionPolicy
from coe.memory_tier_manager.forecast import Forecasts
from coe.memory_tier_manager.hbm import Hbm, HbmEntry
from coe.memory_tier_manager.leases import LeaseTable
from coe.memory_tier_manager.requests import Limits, Pending
from coe.memory_tier_manager.tiers import State
from coe.memory_tier_manager.weights import Weights
from coe.platform import errors


class Tiers:
    def __init__(self, limits: Limits, policy: EvictionPolicy, defaults: Mapping[str, int] | None = None) -> None:
        self.limits = limits
        # Experts to hold in HBM whenever there is room, with their bytes.
        self.defaults = dict(defaults or {})
        self.hbm = Hbm(limits.hbm_bytes, limits.slots, limits.alignment)
        self.ddr = DdrTier(limits.ddr_bytes)
        self.weights = Weights(self.hbm, self.ddr, policy)
        self.leases = LeaseTable()
        self.pins: dict[str, int] = {}
        self.pending: dict[int, Pending] = {}
        self.attached: dict[str, int] = {}
        self.forecasts = Forecasts()
        self._line: list[int] = []
        self._wishes: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._out = self.weights.out
        self._handlers: dict[type, Callable[..., None]] = {
            ev.Attach: self._attach,
            ev.Detach: self._detach,
            ev.Acquire: self._acquire,
            ev.CancelAcquire: self._cancel_acquire,
            ev.Release: self._release,
            ev.Prefetch: self._prefetch,
            ev.Pin: self._pin,
            ev.CopyStarted: self._copy_started,
            ev.CopyEnded: self._copy_ended,
            ev.Freed: self._freed,
            ev.InDdr: self._in_ddr,
            ev.Tick: self._tick,
        }

    def handle(self, event: ev.Event, now: float) -> list[fx.Effect]:
        """`now`: seconds of a monotonic clock. The effects are to be performed in order before the next event."""
        self._handlers[type(event)](event, now)
        self._serve(now)
        effects = list(self._out)
        self._out.clear()
        return effects

    @property
    def idle(self) -> bool:
        """Nothing waits, loads or is being freed."""
        return not self.pending and all(entry.state is State.RESIDENT for entry in self.hbm.entries.values())

    # Workers

    def _attach(self, event: ev.Attach, now: float) -> None:
        if event.worker in self.attached:
            self._detach(ev.Detach(event.worker, self.attached[event.worker]), now)
        self.attached[event.worker] = event.attachment

    def _detach(self, event: ev.Detach, now: float) -> None:
        if self.attached.get(event.worker) != event.attachment:
            return
        del self.attached[event.worker]
        self.forecasts.forget(event.worker)
        for request in [r for r, p in self.pending.items() if p.asked.worker == event.worker]:
            self._refuse(request, errors.Unavailable("the worker is gone", worker=event.worker))
        for lease in self.leases.of_worker(event.worker):
            self._end_lease(lease.lease, now)

    # Requests

    def _acquire(self, event: ev.Acquire, now: float) -> None:
        refusal = self._refusal(event)
        if refusal is not None:
            self._out.append(fx.Reject(event.request, refusal))
            return
        self.forecasts.update(event.worker, event.forecast, now)
        self.pending[event.request] = Pending(event, now, self.weights.where(event.expert))
        entry = self.hbm.entries.get(event.expert)
        if entry is not None and entry.joinable:
            self._join(event.request, entry, now)
        else:
            self._line.append(event.request)

    def _refusal(self, event: ev.Acquire) -> errors.CoEError | None:
        if event.worker not in self.attached:
            return errors.Unavailable(f"worker {event.worker} is not attached", worker=event.worker)
        if not self.hbm.can_hold(event.nbytes):
            return errors.ExpertTooLarge(
                f"{event.expert} has {event.nbytes} bytes, HBM holds {self.hbm.budget.capacity}", expert=event.expert
            )
        if len(self._line) >= self.limits.max_waiting:
            return errors.CapacityExceeded(f"{len(self._line)} requests wait for room in HBM already")
        return None

    def _join(self, request: int, entry: HbmEntry, now: float) -> None:
        """The expert is in HBM or on its way: the lease begins now, the answer may have to wait for bytes."""
        pending = self.pending[request]
        pending.lease = self.leases.grant(pending.asked.worker, entry.expert).lease
        pending.served = now
        entry.last_used, entry.urgent = now, True
        self.ddr.touch(entry.expert, now)
        entry.waiters.append(request)
        self._answer(entry)
        self._out.append(fx.Used(entry.expert))

    def _answer(self, entry: HbmEntry) -> None:
        """Grants what can be granted to those who wait for this entry's bytes."""
        for request in list(entry.waiters):
            pending = self.pending[request]
            if entry.generation is None or (pending.asked.resident and entry.state is not State.RESIDENT):
                continue
            entry.waiters.remove(request)
            del self.pending[request]
            waited = pending.served - pending.arrived
            self._out.append(
                fx.Grant(
                    request,
                    pending.asked.worker,
                    pending.lease,
                    entry.expert,
                    entry.slot,
                    entry.generation,
                    pending.found_in,
                    pending.copied,
                    waited,
                )
            )

    def _cancel_acquire(self, event: ev.CancelAcquire, now: float) -> None:
        if event.request in self.pending:
            self._refuse(event.request, errors.Cancelled("the caller gave up"))

    def _refuse(self, request: int, error: errors.CoEError) -> None:
        """Answers a pending request with an error; a load that only it wanted is cancelled."""
        pending = self.pending.pop(request)
        self._out.append(fx.Reject(request, error))
        if not pending.lease:
            self._line.remove(request)
            return
        self.leases.end(pending.lease)
        entry = self.hbm.entries[pending.asked.expert]
        entry.waiters.remove(request)
        wanted = self.leases.count(entry.expert) or entry.expert in self.pins or not pending.copied
        if entry.state is State.LOADING and not wanted:
            self.weights.cancel_load(entry)
            self._out.append(fx.Changed(entry.expert))
        self._out.append(fx.Used(entry.expert))

    def _release(self, event: ev.Release, now: float) -> None:
        lease = self.leases.end(event.lease, event.worker)
        if lease is not None:
            self._used(lease.expert, now)

    def _end_lease(self, lease_id: int, now: float) -> None:
        lease = self.leases.end(lease_id)
        if lease is not None:
            self._used(lease.expert, now)

    def _used(self, expert: str, now: float) -> None:
        entry = self.hbm.entries.get(expert)
        if entry is not None:
            entry.last_used = now
            self._out.append(fx.Used(expert))

    def _prefetch(self, event: ev.Prefetch, now: float) -> None:
        self.forecasts.update(event.worker, event.forecast, now)
        entry = self.hbm.entries.get(event.expert)
        found_in = self.weights.where(event.expert)
        started = entry is not None and entry.joinable
        if entry is None and self.hbm.can_hold(event.nbytes):
            self.weights.into_ddr(event.expert, event.nbytes, now)
            if not self._line and (self.hbm.can_place(event.nbytes) or event.may_evict):
                # Experts that are expected to be used sooner than this one stay.
                wanted, never = self.forecasts.next_use(event.expert), float("inf")
                spare = [c for c in self._candidates() if c.next_use > wanted or c.next_use == never]
                started = self.weights.make_room(event.nbytes, spare, now)
            if started:
                self._wishes[event.expert] = event.nbytes
        self._out.append(fx.Prefetched(event.request, started, found_in))

    def _pin(self, event: ev.Pin, now: float) -> None:
        if not event.pinned:
            self.pins.pop(event.expert, None)
        elif event.expert not in self.pins:
            sizes = [self.hbm.extents.rounded(nbytes) for nbytes in (*self.pins.values(), event.nbytes)]
            if sum(sizes) > self.hbm.budget.capacity:
                error = errors.CapacityExceeded(f"pins of {sum(sizes)} bytes exceed HBM", expert=event.expert)
                self._out.append(fx.Reject(event.request, error))
                return
            self.pins[event.expert] = event.nbytes
        self._out += (fx.Done(event.request), fx.Changed(event.expert))

    # Loads

    def _serve(self, now: float) -> None:
        """Gives room to those who wait for it, in their order; then to prefetches, pins and defaults."""
        blocked = False
        for request in list(self._line):
            asked = self.pending[request].asked
            entry = self.hbm.entries.get(asked.expert)
            if (
                entry is None
                and not blocked
                and self._make_room(asked.nbytes, now)
                and self.hbm.can_place(asked.nbytes)
            ):
                entry = self.weights.start_load(asked.expert, asked.nbytes, now, urgent=True)
                self.pending[request].copied = asked.nbytes
            if entry is not None and entry.joinable:
                self._line.remove(request)
                self._join(request, entry, now)
            else:
                blocked = True
        if not self._line and (self._wishes or self.pins or self.defaults):
            self._serve_wishes(now)
        self.weights.next_copy(now)

    def _serve_wishes(self, now: float) -> None:
        freeing = any(entry.state is State.FREEING for entry in self.hbm.entries.values())
        for expert, nbytes in list(self._wishes.items()):
            if expert not in self.hbm.entries and self.hbm.can_place(nbytes):
                self.weights.start_load(expert, nbytes, now, urgent=False)
                del self._wishes[expert]
            elif not freeing or expert in self.hbm.entries:
                del self._wishes[expert]
        for expert, nbytes in {**self.pins, **self.defaults}.items():
            if expert in self.hbm.entries or self._retry_at.get(expert, now) > now:
                continue
            if expert in self.pins and not self._make_room(nbytes, now):
                continue
            if self.hbm.can_place(nbytes):
                self.weights.start_load(expert, nbytes, now, urgent=False)

    def _make_room(self, nbytes: int, now: float) -> bool:
        return self.weights.make_room(nbytes, self._candidates(), now)

    def _candidates(self) -> list[Candidate]:
        wanted = {self.pending[request].asked.expert for request in self._line}
        return [
            Candidate(
                entry.expert,
                entry.offset,
                entry.taken,
                entry.since,
                entry.last_used,
                self.forecasts.next_use(entry.expert),
                self.forecasts.probability(entry.expert),
            )
            for entry in self.hbm.entries.values()
            if entry.state is State.RESIDENT
            and not self.leases.count(entry.expert)
            and entry.expert not in self.pins
            and entry.expert not in wanted
        ]

    # What came of effects

    def _copy_started(self, event: ev.CopyStarted, now: float) -> None:
        entry = self.hbm.entries[event.expert]
        entry.generation = event.generation
        if entry.state is State.LOADING:
            self._answer(entry)
            self._out.append(fx.Changed(event.expert))

    def _copy_ended(self, event: ev.CopyEnded, now: float) -> None:
        entry = self.weights.copy_ended(event.expert, now, whole=event.error is None)
        if entry.state is State.RESIDENT:
            self._answer(entry)
        elif event.error is not None:
            self._fail(entry, event.error, now)

    def _fail(self, entry: HbmEntry, error: errors.CoEError, now: float) -> None:
        """Everyone who waits for the load hears why; leases on it are void (the slot's generation moves on)."""
        self._retry_at[entry.expert] = now + self.limits.retry_s
        for request in entry.waiters:
            del self.pending[request]
            self._out.append(fx.Reject(request, error))
        entry.waiters.clear()
        for lease in self.leases.of_expert(entry.expert):
            self.leases.end(lease.lease)

    def _freed(self, event: ev.Freed, now: float) -> None:
        self.weights.freed(event.expert)

    def _in_ddr(self, event: ev.InDdr, now: float) -> None:
        self.weights.read_into_ddr(event.expert, ok=event.ok)

    # Time

    def _tick(self, event: ev.Tick, now: float) -> None:
        for request in [r for r, p in self.pending.items() if p.asked.deadline <= now]:
            expert = self.pending[request].asked.expert
            self._refuse(request, errors.DeadlineExceeded(f"{expert} did not get into HBM in time", expert=expert))
        slow = self.hbm.entries.get(self.hbm.copying or "")
        if slow is not None and slow.state is State.LOADING and now - slow.since > self.limits.load_timeout_s:
            message = f"loading {slow.expert} took more than {self.limits.load_timeout_s:g} s"
            self._fail(slow, errors.TierLoadError(message, expert=slow.expert), now)
            self.weights.cancel_load(slow)
        if self.limits.idle_ttl_s != float("inf"):
            for candidate in self._candidates():
                if now - candidate.last_used > self.limits.idle_ttl_s and candidate.expert not in self.defaults:
                    self.weights.evict(candidate.expert, now, "ttl")

    def check_integrity(self) -> None:
        """AssertionError when the state contradicts itself. Cheap enough for every idle moment."""
        integrity.check(self.weights, self.leases, self.attached)
        self._check_requests()

    def _check_requests(self) -> None:
        line = [request for request, pending in self.pending.items() if not pending.lease]
        assert sorted(line) == sorted(self._line)
        waiters = [request for entry in self.hbm.entries.values() for request in entry.waiters]
        assert sorted([*waiters, *line]) == sorted(self.pending), "a request nobody will answer"
