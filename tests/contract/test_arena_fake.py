"""The fake arena keeps the arena's contract."""

from collections.abc import Iterator

import pytest

from contract.arena_suite import MIB, ArenaContract
from support.fake_arena import FakeArena, FakeSource


class TestFakeArena(ArenaContract):
    @pytest.fixture(autouse=True)
    def make(self) -> Iterator[None]:
        self.arena = FakeArena("fake", 8 * MIB, 4)
        yield
        self.arena.close()

    def source(self, nbytes: int, *, damaged: bool = False) -> FakeSource:
        return FakeSource(nbytes, damaged=damaged)
