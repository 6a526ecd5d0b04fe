"""Moves weights: into DDR, over the link into HBM, and out again. Does the bookkeeping and emits effects; what to move
is decided elsewhere."""

from collections.abc import Sequence

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager.ddr import DdrTier
from coe.memory_tier_manager.eviction import Candidate, EvictionPolicy, leaving_order, victims
from coe.memory_tier_manager.hbm import Hbm, HbmEntry
from coe.memory_tier_manager.parts import part_name
from coe.memory_tier_manager.tiers import State, Tier


class Weights:
    """Both tiers. `out` collects the effects of the event being handled."""

    def __init__(self, hbm: Hbm, ddr: DdrTier, policy: EvictionPolicy, max_aside: int) -> None:
        self.hbm = hbm
        self.ddr = ddr
        self.policy = policy
        self._max_aside = max_aside
        # Evicted experts, with their sizes: their first layers may be kept.
        self.left: dict[str, int] = {}
        self.out: list[fx.Effect] = []

    def where(self, expert: str) -> Tier:
        """The highest tier that holds all of the expert's bytes."""
        entry = self.hbm.entries.get(expert)
        if entry is not None and entry.state is State.RESIDENT:
            return Tier.HBM
        return Tier.DDR if self.ddr.has(expert) else Tier.DISK

    def make_room(self, nbytes: int, candidates: Sequence[Candidate], now: float) -> bool:
        """Evicts candidates so that `nbytes` will fit once everything being freed is free. False: not possible."""
        if self.hbm.can_place(nbytes):
            return True
        chosen = victims(nbytes, candidates, self.hbm.when_freed(), self.policy)
        if chosen == [] and not self.hbm.has_slot:
            # There are enough bytes, but every slot is in use.
            chosen = leaving_order(candidates, self.policy)[:1] or None
        if chosen is None:
            return False
        for candidate in chosen:
            self.evict(candidate.expert, now, "room")
        return True

    def start_load(self, expert: str, nbytes: int, now: float, *, urgent: bool) -> HbmEntry:
        entry = self.hbm.place(expert, nbytes, now, urgent=urgent)
        entry.was_in_ddr = self.ddr.has(expert)
        self.into_ddr(expert, nbytes, now)
        self._from_ddr(entry)
        for other in list(self.hbm.entries.values()):
            # Another expert's part gives up the link if this load is urgent; this expert's own part is cancelled if its
            # copy has not begun.
            mine = other.part_of == expert
            if other.part_of and other.state is State.LOADING and other.copying is not mine and (urgent or mine):
                self.cancel_load(other)
        self.out.append(fx.Changed(expert))
        return entry

    def start_part(self, expert: str, nbytes: int, now: float) -> None:
        """Loads only the expert's first `nbytes`; the expert is in DDR."""
        self._from_ddr(self.hbm.place(part_name(expert), nbytes, now, urgent=False, part_of=expert))

    def part(self, expert: str) -> HbmEntry | None:
        return self.hbm.entries.get(part_name(expert))

    def _from_ddr(self, entry: HbmEntry) -> None:
        if entry.source in self.ddr.entries:
            entry.from_ddr = True
            self.ddr.entries[entry.source].copies += 1

    def into_ddr(self, expert: str, nbytes: int, now: float) -> None:
        if expert in self.ddr.entries:
            self.ddr.touch(expert, now)
            return
        out = self.ddr.admit(expert, nbytes, now)
        if out is not None:
            self.out += [fx.DropFromDdr(name) for name in out]
            self.out += [fx.Changed(name) for name in out]
            self.out.append(fx.ReadIntoDdr(expert))

    def next_copy(self, now: float) -> None:
        entry = self.hbm.next_copy(now, self.may_start)
        if entry is None:
            return
        entry.moves = self.ddr.has(entry.source)
        part = self.part(entry.expert)
        if part is not None and part.state is State.RESIDENT:
            entry.saved = part.nbytes
            self.out.append(self._copy(entry, part.slot))
        else:
            self.out.append(self._copy(entry, None))

    def may_start(self, entry: HbmEntry) -> bool:
        """False if it might have to wait for a disk while too many copies already do."""
        return len(self.hbm.aside) < self._max_aside * (2 if self.ddr.has(entry.source) else 1)

    @staticmethod
    def _copy(entry: HbmEntry, part_slot: int | None) -> fx.StartCopy:
        return fx.StartCopy(
            entry.expert, entry.slot, entry.offset, entry.nbytes, entry.part_of, part_slot, watched=not entry.moves
        )

    def leave_ddr(self, entry: HbmEntry) -> None:
        if entry.from_ddr:
            entry.from_ddr = False
            source = self.ddr.entries[entry.source]
            source.copies -= 1
            if source.failed and not source.copies:
                self.drop_from_ddr(entry.source)

    def cancel_load(self, entry: HbmEntry) -> None:
        self.hbm.abandon(entry.expert)
        if entry.copying:
            self.out.append(fx.CancelCopy(entry.expert, entry.slot))
        else:
            self.leave_ddr(entry)

    def evict(self, expert: str, now: float, reason: str) -> None:
        entry = self.hbm.drop(expert)
        if not entry.part_of:
            self.left[expert] = entry.nbytes
            self.out += (fx.Evicted(expert, entry.nbytes, now - entry.last_used, reason), fx.Changed(expert))
        self.out.append(fx.Free(expert, entry.slot))

    def copy_ended(self, expert: str, now: float, *, whole: bool) -> HbmEntry:
        """The entry, which is now RESIDENT, or FREEING if the copy failed or was cancelled."""
        entry = self.hbm.copy_ended(expert, now, whole=whole)
        self.leave_ddr(entry)
        if entry.state is not State.RESIDENT:
            self.out.append(fx.Free(expert, entry.slot))
        elif (part := self.part(expert)) is not None and part.state is State.RESIDENT:
            # The whole expert is in HBM now.
            self.evict(part.expert, now, "whole")
        self.changed(entry)
        return entry

    def freed(self, expert: str) -> None:
        self.changed(self.hbm.freed(expert))

    def changed(self, entry: HbmEntry) -> None:
        """Reports a change, except of parts, which are not visible outside."""
        if not entry.part_of:
            self.out.append(fx.Changed(entry.expert))

    def read_into_ddr(self, expert: str, *, ok: bool) -> None:
        """The read has ended. An expert that could not be read is dropped once no copy reads from it."""
        entry = self.ddr.entries.get(expert)
        if entry is None:
            return
        if ok:
            self.ddr.ready(expert)
        elif entry.copies:
            entry.failed = True
        else:
            self.drop_from_ddr(expert)
        self.out.append(fx.Changed(expert))

    def drop_from_ddr(self, expert: str) -> None:
        self.ddr.drop(expert)
        self.out.append(fx.DropFromDdr(expert))
