"""Moves experts into and out of HBM without a waiting request: prefetches, pins, default experts, time to live."""

from collections.abc import Container

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.parts import next_part, part_name, part_nbytes
from coe.memory_tier_manager.state import TierState
from coe.memory_tier_manager.tiers import State
from coe.platform import errors

INF = float("inf")


class Upkeep:
    """The core calls `serve` and `keep_parts` only while no request waits for room."""

    def __init__(self, state: TierState) -> None:
        self._state = state
        self._out = state.out
        # Prefetches waiting for bytes that are being freed, with their sizes.
        self._wishes: dict[str, int] = {}

    def prefetch(self, event: ev.Prefetch, now: float, wanted: set[str]) -> None:
        """`wanted`: experts that requests wait for; they take precedence."""
        state = self._state
        entry = state.hbm.entries.get(event.expert)
        found_in = state.weights.where(event.expert)
        started = entry is not None and entry.joinable
        if entry is not None:
            entry.demanded = False
        if entry is None and state.hbm.can_hold(event.nbytes):
            state.weights.into_ddr(event.expert, event.nbytes, now)
            if not wanted and (state.hbm.can_place(event.nbytes) or event.may_evict):
                # Keep experts that are expected to be used sooner than this one.
                mine = state.forecasts.next_use(event.expert)
                spare = [c for c in state.candidates(wanted) if c.next_use > mine or c.next_use == INF]
                started = state.weights.make_room(event.nbytes, spare, now)
            if started:
                self._wishes[event.expert] = event.nbytes
        self._out.append(fx.Prefetched(event.request, started, found_in))

    def pin(self, event: ev.Pin) -> None:
        state = self._state
        if not event.pinned:
            state.pins.pop(event.expert, None)
            state.unmet.pop(event.expert, None)
            self._hold_what_fits()
        elif event.expert not in state.pins:
            if (size := self._pins_with(event.nbytes)) > state.hbm.budget.capacity:
                error = errors.CapacityExceeded(f"{size} bytes of pins don't fit into HBM", expert=event.expert)
                self._out.append(fx.Reject(event.request, error))
                return
            state.unmet.pop(event.expert, None)
            state.pins[event.expert] = event.nbytes
        self._out += (fx.Done(event.request), fx.Changed(event.expert))

    def replaced(self, event: ev.Replaced) -> None:
        """Transfers pins and defaults to the expert's new bytes. A pin that no longer fits waits for room."""
        state = self._state
        if event.by != event.expert:
            state.former.add(event.expert)
        state.former.discard(event.by)
        self._wishes.pop(event.expert, None)
        if event.expert in state.defaults and event.by:
            del state.defaults[event.expert]
            state.defaults[event.by] = event.nbytes
        for pins in (state.pins, state.unmet) if event.by else ():
            if pins.pop(event.expert, None) is not None:
                pins[event.by] = event.nbytes
        if event.by in state.pins and self._pins_with() > state.hbm.budget.capacity:
            state.unmet[event.by] = state.pins.pop(event.by)
            self._out.append(fx.PinHeld(event.by, event.nbytes, held=False))
        self._hold_what_fits()
        if event.by:
            self._out.append(fx.Changed(event.by))

    def let_go(self, now: float) -> None:
        """Drops bytes that no expert's name stands for any more, once nobody reads them."""
        state, weights = self._state, self._state.weights
        for expert in list(state.former):
            for name in (part_name(expert), expert):
                entry = state.hbm.entries.get(name)
                if entry is None or state.leases.count(name) or name in state.unclaimed:
                    continue
                if entry.state is State.RESIDENT and not state.is_read(entry.part_of):
                    weights.evict(name, now, "replaced")
                elif entry.state is State.LOADING:
                    weights.cancel_load(entry)
                    weights.changed(entry)
            in_ddr = state.ddr.entries.get(expert)
            if in_ddr is not None and in_ddr.ready and not in_ddr.copies:
                weights.drop_from_ddr(expert)
                self._out.append(fx.Changed(expert))
            weights.left.pop(expert, None)
            kept = (*state.hbm.entries, *state.ddr.entries, *state.wanted_always())
            if expert not in kept and part_name(expert) not in kept:
                state.former.discard(expert)

    def failed(self, expert: str, now: float) -> None:
        """Notes a failed load: pins and defaults are retried, but not immediately."""
        self._state.retry_at[expert] = now + self._state.limits.retry_s

    def serve(self, now: float) -> None:
        self._serve_wishes(now)
        state = self._state
        for expert, nbytes in {**state.pins, **state.defaults}.items():
            if expert in state.hbm.entries or expert in state.former or state.retry_at.get(expert, now) > now:
                continue
            if expert in state.pins and not state.weights.make_room(nbytes, state.candidates(()), now):
                continue
            if state.hbm.can_place(nbytes):
                state.weights.start_load(expert, nbytes, now, urgent=False)

    def keep_parts(self, now: float) -> None:
        """Copies first layers into free room while the link is idle."""
        state, hbm = self._state, self._state.hbm
        if not state.limits.part_share or not hbm.link_idle:
            return
        absent = [one for one in state.absent() if state.retry_at.get(part_name(one.expert), now) <= now]
        sizes = {one.expert: part_nbytes(one.nbytes, state.limits.part_share, state.limits.part_unit) for one in absent}
        room = {expert: nbytes for expert, nbytes in sizes.items() if nbytes and hbm.can_place(nbytes)}
        if (chosen := next_part(absent, hbm.entries.keys(), room)) is not None:
            state.weights.start_part(chosen.expert, room[chosen.expert], now)

    def expire(self, now: float, wanted: Container[str]) -> None:
        """Evicts experts that have been unused for their time to live, except default experts."""
        state = self._state
        for expert in [expert for expert, at in state.retry_at.items() if at <= now]:
            del state.retry_at[expert]
        if state.limits.idle_ttl_s == INF:
            return
        for candidate in state.candidates(wanted):
            if candidate.part:
                continue
            if now - candidate.last_used > state.limits.idle_ttl_s and candidate.expert not in state.defaults:
                state.weights.evict(candidate.expert, now, "ttl")

    @property
    def waits(self) -> bool:
        return bool(self._wishes or self._state.pins or self._state.defaults)

    def _hold_what_fits(self) -> None:
        state = self._state
        for expert, nbytes in list(state.unmet.items()):
            if self._pins_with(nbytes) <= state.hbm.budget.capacity:
                state.pins[expert] = state.unmet.pop(expert)
                self._out.append(fx.PinHeld(expert, nbytes, held=True))

    def _pins_with(self, *more: int) -> int:
        hbm = self._state.hbm
        return sum(hbm.extents.rounded(one) for one in (*self._state.pins.values(), *more))

    def _serve_wishes(self, now: float) -> None:
        hbm = self._state.hbm
        freeing = any(entry.state is State.FREEING for entry in hbm.entries.values())
        for expert, nbytes in list(self._wishes.items()):
            if expert not in hbm.entries and hbm.can_place(nbytes):
                self._state.weights.start_load(expert, nbytes, now, urgent=False)
                del self._wishes[expert]
            elif not freeing or expert in hbm.entries:
                del self._wishes[expert]
