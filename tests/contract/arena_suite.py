"""What an arena keeps, whoever implements it. A subclass gives `arena` (room for 8 MiB, 4 slots) and `source(...)`."""

import pytest

from coe.memory_tier_manager.arena import Arena, Copy, Source
from coe.platform.errors import CapacityExceeded

MIB = 1 << 20


class ArenaContract:
    arena: Arena

    def source(self, nbytes: int, *, damaged: bool = False) -> Source:
        raise NotImplementedError

    def copied(self, slot: int, offset: int, nbytes: int = MIB) -> Copy:
        copy = self.arena.copy(slot, offset, self.source(nbytes))
        assert copy.wait(20.0)
        assert copy.failure is None
        return copy

    def test_a_copy_makes_its_slot_resident(self) -> None:
        copy = self.copied(1, 2 * MIB)
        assert copy.bytes_copied == MIB
        assert self.arena.is_resident(1)
        assert not self.arena.is_resident(0)

    def test_each_use_of_a_slot_has_a_generation_of_its_own(self) -> None:
        first = self.copied(0, 0).generation
        self.arena.free(0)
        assert not self.arena.is_resident(0)
        assert self.copied(0, 0).generation > first

    def test_slots_and_ranges_are_used_once(self) -> None:
        self.copied(0, 0, 2 * MIB)
        with pytest.raises(CapacityExceeded):
            self.arena.copy(0, 4 * MIB, self.source(MIB))
        with pytest.raises(CapacityExceeded):
            self.arena.copy(1, MIB, self.source(MIB))
        self.copied(1, 2 * MIB)

    def test_the_end_of_the_arena_is_its_end(self) -> None:
        with pytest.raises(ValueError, match=r"\S"):
            self.arena.copy(0, 7 * MIB + MIB // 2, self.source(MIB))
        self.copied(0, 7 * MIB)

    def test_a_failed_copy_leaves_its_slot_free(self) -> None:
        copy = self.arena.copy(2, 0, self.source(MIB, damaged=True))
        assert copy.wait(20.0)
        assert copy.failure is not None
        assert not self.arena.is_resident(2)
        self.copied(2, 0)

    def test_after_a_cancel_the_slot_is_free_or_resident(self) -> None:
        """The cancel may come too late; either way `wait` says when it is over."""
        copy = self.arena.copy(3, 0, self.source(8 * MIB))
        copy.cancel()
        assert copy.wait(20.0)
        assert (copy.failure is None) == self.arena.is_resident(3)
        if self.arena.is_resident(3):
            self.arena.free(3)
        self.copied(3, 0)

    def test_sources_lock_and_close(self) -> None:
        source = self.source(MIB)
        source.lock()
        assert source.nbytes == MIB
        source.close()
