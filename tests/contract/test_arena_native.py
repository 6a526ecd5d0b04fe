"""The shared-memory arena keeps the arena's contract."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from coe.memory_tier_manager.native_arena import NativeArena, VerifiedOnce
from coe.native import WeightsFile, checksum
from contract.arena_suite import MIB, ArenaContract


class TestNativeArena(ArenaContract):
    @pytest.fixture(autouse=True)
    def make(self, tmp_path: Path) -> Iterator[None]:
        self._folder = tmp_path
        self.arena = NativeArena(f"coe-contract-{uuid.uuid4().hex[:8]}", 8 * MIB, 4, threads=2, bytes_per_second=0.0)
        yield
        self.arena.close()

    def source(self, nbytes: int, *, damaged: bool = False) -> VerifiedOnce:
        data = bytes(range(256)) * (nbytes // 256)
        path = self._folder / uuid.uuid4().hex
        path.write_bytes(data)
        sums = [checksum(data[start : start + 4 * MIB]) for start in range(0, nbytes, 4 * MIB)]
        if damaged:
            sums[0] ^= 1
        return VerifiedOnce(WeightsFile.open(path, sums, 4 * MIB))
