"""Acquires: who gets a lease now, who waits for bytes, who waits for room, who is refused."""

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
    """A request waits in the line until its expert is in HBM or on its way there, then among that entry's waiters until
    its bytes have come; it is answered exactly once."""

    def __init__(self, state: TierState) -> None:
        self.pending: dict[int, Pending] = {}
        self.line: list[int] = []
        # The request that experts are to leave for when their leases have ended.
        self._recalled_for: int | None = None
        self._state = state
        self._out = state.out

    def wanted(self) -> set[str]:
        """Experts that requests in the line wait for, those apart that are to leave before."""
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
        """Gives room to those who wait for it, in their order.

        Those whose expert came meanwhile pass them, and those who wait for something else than room hold nobody up.
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
        """Answers a pending request with an error; a load that only it wanted is cancelled."""
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
        """Who has waited long enough for room is not passed any more by leases on what is in its place."""
        waiting = (request for request in self.line if self._waits_for_room(self.pending[request].asked))
        first = next(waiting, None)
        if self._recalled_for is not None and first != self._recalled_for:
            self._recalled_for = None
            self._mark_recalled(set())
            self.serve(now)
            first = None  # the next event looks again
        if first is None or self._recalled_for is not None:
            return
        state, pending = self._state, self.pending[first]
        if now - pending.arrived >= state.limits.recall_s:
            # Pinned ones only where it must be, for they are loaded anew elsewhere.
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
        """Grants what can be granted to those who wait for this entry's bytes."""
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
        """Everyone who waits for the load hears why; leases on it are void (the slot's generation moves on)."""
        for request in entry.waiters:
            del self.pending[request]
            self._out.append(fx.Reject(request, error))
        entry.waiters.clear()
        for lease in self._state.leases.of_expert(entry.expert):
            self._state.leases.end(lease.lease)

    def check_integrity(self) -> None:
        """AssertionError when a request would never be answered, or twice."""
        line = [request for request, pending in self.pending.items() if not pending.lease]
        assert sorted(line) == sorted(self.line)
        waiters = [request for entry in self._state.hbm.entries.values() for request in entry.waiters]
        assert sorted([*waiters, *line]) == sorted(self.pending), "a request nobody will answer"

    def _refusal(self, event: ev.Acquire, attached: Container[str]) -> errors.CoEError | None:
        hbm, limits = self._state.hbm, self._state.limits
        entry = hbm.entries.get(event.expert)
        if event.worker not in attached:
            return errors.Unavailable(f"worker {event.worker} is not attached", worker=event.worker)
        if not hbm.can_hold(event.nbytes):
            expert = name_of(event.expert)
            return errors.ExpertTooLarge(
                f"{expert} has {event.nbytes} bytes, HBM holds {hbm.budget.capacity}", expert=expert
            )
        if entry is not None and entry.hangs:
            message = f"{name_of(event.expert)} can't be loaded: its disk does not answer"
            return errors.TierLoadError(message, expert=name_of(event.expert))
        hanging = sum(other.hangs for other in hbm.entries.values())
        if entry is None and hanging >= limits.max_aside and not self._state.ddr.has(event.expert):
            message = f"{name_of(event.expert)} can't be loaded: {hanging} copies wait for disks that don't answer"
            return errors.TierLoadError(message, expert=name_of(event.expert))
        if len(self.line) >= limits.max_waiting:
            return errors.CapacityExceeded(f"{len(self.line)} requests are already waiting for room in HBM")
        return None

    def _join(self, request: int, entry: HbmEntry, now: float) -> None:
        """The expert is in HBM or on its way: the lease begins now, the answer may have to wait for bytes."""
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
        """Whether there is room now; makes it if it can. The first layers of the expert itself leave last.

        Pinned experts only move, and only for what fits beside them all: they are loaded anew elsewhere.
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
        """Not who waits for the disk that a former copy of its expert reads from, nor whom pins leave no room for."""
        return asked.expert not in self._state.hbm.aside and self._fits_beside_pins(asked.nbytes)

    def _fits_beside_pins(self, nbytes: int) -> bool:
        """Nor beside bytes whose copies hang."""
        rounded = self._state.hbm.extents.rounded
        taken = sum(rounded(pinned) for pinned in self._state.pins.values())
        taken += sum(entry.taken for entry in self._state.hbm.entries.values() if entry.hangs)
        return taken + rounded(nbytes) <= self._state.hbm.budget.capacity
