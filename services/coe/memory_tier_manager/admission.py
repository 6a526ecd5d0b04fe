"""Decides on acquires: which requests get a lease now, wait for bytes, wait for room, or are refused."""

from collections.abc import Container

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.eviction import victims
from coe.memory_tier_manager.hbm import HbmEntry
from coe.memory_tier_manager.parts import part_name
from coe.memory_tier_manager.requests import Pending
from coe.memory_tier_manager.state import TierState
from coe.memory_tier_manager.tiers import State, Tier
from coe.memory_tier_manager.versions import name_of
from coe.platform import errors


class Admission:
    """A request waits in `line` until its expert is in HBM or loading into it, then among that entry's waiters until
    its bytes have arrived. It is answered exactly once."""

    def __init__(self, state: TierState) -> None:
        self.pending: dict[int, Pending] = {}
        self.line: list[int] = []
        # The request that experts are being recalled for: they leave when their leases have ended.
        self._recalled_for: int | None = None
        self._state = state
        self._out = state.out

    def wanted(self) -> set[str]:
        """Experts that requests in the line are waiting for, except those recalled."""
        entries = self._state.hbm.entries
        experts = {self.pending[request].asked.expert for request in self.line}
        return {expert for expert in experts if expert not in entries or not entries[expert].recalled}

    def ask(self, event: ev.Acquire, now: float, attached: Container[str]) -> None:
        state = self._state
        refusal = self._refusal(event, attached)
        if refusal is not None:
            self._out.append(fx.Reject(event.request, refusal))
            return
        state.forecasts.update(event.worker, event.forecast, now)
        self.pending[event.request] = Pending(event, now, state.weights.where(event.expert))
        entry = state.hbm.entries.get(event.expert)
        if entry is not None and entry.joinable and not entry.recalled:
            self._join(event.request, entry, now)
        else:
            self.line.append(event.request)

    def serve(self, now: float) -> None:
        """Gives room to the requests waiting for it, in order.

        Requests whose expert has arrived meanwhile overtake them. Requests waiting for something other than room block
        nobody.
        """
        state, blocked = self._state, False
        for request in list(self.line):
            asked = self.pending[request].asked
            entry = state.hbm.entries.get(asked.expert)
            if entry is None and not blocked and self._room(asked, now):
                entry = state.weights.start_load(asked.expert, asked.nbytes, now, urgent=True)
                self.pending[request].copied = asked.nbytes
            if entry is not None and entry.joinable and not (entry.recalled and blocked):
                self.line.remove(request)
                self._join(request, entry, now)
            else:
                blocked = blocked or self._waits_for_room(asked)

    def refuse(self, request: int, error: errors.CoEError) -> None:
        """Answers a pending request with an error. Cancels a load that only this request wanted."""
        state, pending = self._state, self.pending.pop(request)
        self._out.append(fx.Reject(request, error))
        if not pending.lease:
            self.line.remove(request)
            return
        state.leases.end(pending.lease)
        entry = state.hbm.entries[pending.asked.expert]
        entry.waiters.remove(request)
        wanted = state.leases.count(entry.expert) or entry.expert in state.pins or not entry.demanded
        if entry.state is State.LOADING and not wanted:
            state.weights.cancel_load(entry)
            self._out.append(fx.Changed(entry.expert))
        state.used.add(entry.expert)

    def refuse_all_of(self, worker: str) -> None:
        for request in [request for request, pending in self.pending.items() if pending.asked.worker == worker]:
            self.refuse(request, errors.Unavailable("the worker left", worker=worker))

    def refuse_all_for(self, expert: str, error: errors.CoEError) -> None:
        for request in [request for request, pending in self.pending.items() if pending.asked.expert == expert]:
            self.refuse(request, error)

    def refuse_late(self, now: float) -> None:
        for request in [request for request, pending in self.pending.items() if pending.asked.deadline <= now]:
            expert = name_of(self.pending[request].asked.expert)
            self.refuse(request, errors.DeadlineExceeded(f"{expert} was not loaded into HBM in time", expert=expert))

    @property
    def waits(self) -> bool:
        return bool(self.line) or self._recalled_for is not None

    def recall(self, now: float) -> None:
        """Recalls experts for the first request that has waited for room long enough.

        Recalled experts give no new leases until that request is served, so it can't be overtaken any longer.
        """
        waiting = (request for request in self.line if self._waits_for_room(self.pending[request].asked))
        first = next(waiting, None)
        if self._recalled_for is not None and first != self._recalled_for:
            self._recalled_for = None
            self._mark_recalled(set())
            self.serve(now)
            first = None  # recall for the next request, if any, at the next event
        if first is None or self._recalled_for is not None:
            return
        state, pending = self._state, self.pending[first]
        if now - pending.arrived >= state.limits.recall_s:
            # Pinned experts only if unavoidable, because they must be reloaded elsewhere.
            for pinned in (False, True):
                leaving = state.candidates({pending.asked.expert}, pinned=pinned, leased=True)
                found = victims(pending.asked.nbytes, leaving, state.hbm.when_freed(), state.weights.policy)
                if found:
                    self._recalled_for = first
                    self._mark_recalled({candidate.expert for candidate in found})
                if found is not None:
                    break

    def _mark_recalled(self, experts: set[str]) -> None:
        for entry in self._state.hbm.entries.values():
            if entry.recalled != (entry.expert in experts):
                entry.recalled = not entry.recalled
                self._state.weights.changed(entry)

    def answer(self, entry: HbmEntry) -> None:
        """Grants the leases of waiters that can start with the bytes that have arrived."""
        for request in list(entry.waiters):
            pending = self.pending[request]
            behind_copy = entry.moves and not pending.asked.resident
            if entry.generation is None or not (entry.state is State.RESIDENT or behind_copy):
                continue
            entry.waiters.remove(request)
            del self.pending[request]
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
                    pending.served - pending.arrived,
                )
            )

    def fail(self, entry: HbmEntry, error: errors.CoEError) -> None:
        """Rejects every waiter of the load with the error. Ends leases on it (the slot's generation changes)."""
        for request in entry.waiters:
            del self.pending[request]
            self._out.append(fx.Reject(request, error))
        entry.waiters.clear()
        for lease in self._state.leases.of_expert(entry.expert):
            self._state.leases.end(lease.lease)

    def check_integrity(self) -> None:
        """Raises AssertionError if a request would never be answered, or answered twice."""
        line = [request for request, pending in self.pending.items() if not pending.lease]
        assert sorted(line) == sorted(self.line)
        waiters = [request for entry in self._state.hbm.entries.values() for request in entry.waiters]
        assert sorted([*waiters, *line]) == sorted(self.pending), "a request that nobody will answer"

    def _refusal(self, event: ev.Acquire, attached: Container[str]) -> errors.CoEError | None:
        hbm, limits = self._state.hbm, self._state.limits
        entry = hbm.entries.get(event.expert)
        if event.worker not in attached:
            return errors.Unavailable(f"worker {event.worker} is not attached", worker=event.worker)
        if not hbm.can_hold(event.nbytes):
            expert = name_of(event.expert)
            return errors.ExpertTooLarge(
                f"{expert} has {event.nbytes} bytes, but HBM holds only {hbm.budget.capacity}", expert=expert
            )
        if entry is not None and entry.hangs:
            message = f"cannot load {name_of(event.expert)}: its disk is not responding"
            return errors.TierLoadError(message, expert=name_of(event.expert))
        hanging = sum(other.hangs for other in hbm.entries.values())
        if entry is None and hanging >= limits.max_aside and not self._state.ddr.has(event.expert):
            message = f"cannot load {name_of(event.expert)}: {hanging} copies wait for disks that are not responding"
            return errors.TierLoadError(message, expert=name_of(event.expert))
        if len(self.line) >= limits.max_waiting:
            return errors.CapacityExceeded(f"{len(self.line)} requests are already waiting for room in HBM")
        return None

    def _join(self, request: int, entry: HbmEntry, now: float) -> None:
        """The expert is in HBM or loading: starts the lease now, though the answer may have to wait for bytes."""
        state, pending = self._state, self.pending[request]
        pending.lease = state.leases.grant(pending.asked.worker, entry.expert).lease
        pending.served = now
        if pending.found_in is Tier.HBM:
            state.hits += 1
        else:
            state.misses += 1
        entry.last_used, entry.urgent = now, True
        state.ddr.touch(entry.expert, now)
        entry.waiters.append(request)
        self.answer(entry)
        state.used.add(entry.expert)

    def _room(self, asked: ev.Acquire, now: float) -> bool:
        """Makes room if possible; returns whether there is room now. The expert's own first layers are evicted last.

        Pinned experts are only moved (reloaded elsewhere), and only for an expert that fits alongside all pins.
        """
        state, own = self._state, part_name(asked.expert)
        candidates = state.candidates(self.wanted())
        others = [candidate for candidate in candidates if candidate.expert != own]
        made = state.weights.make_room(asked.nbytes, others, now) or (
            len(others) < len(candidates) and state.weights.make_room(asked.nbytes, candidates, now)
        )
        if not made and state.pins and self._fits_beside_pins(asked.nbytes):
            made = state.weights.make_room(asked.nbytes, state.candidates(self.wanted(), pinned=True), now)
        return made and state.hbm.can_place(asked.nbytes)

    def _waits_for_room(self, asked: ev.Acquire) -> bool:
        """False for a request waiting for the disk of an earlier copy of its expert, or that pins leave no room for."""
        return asked.expert not in self._state.hbm.aside and self._fits_beside_pins(asked.nbytes)

    def _fits_beside_pins(self, nbytes: int) -> bool:
        """Whether this many bytes fit alongside all pins and all bytes whose copies hang."""
        rounded = self._state.hbm.extents.rounded
        taken = sum(rounded(pinned) for pinned in self._state.pins.values())
        taken += sum(entry.taken for entry in self._state.hbm.entries.values() if entry.hangs)
        return taken + rounded(nbytes) <= self._state.hbm.budget.capacity
