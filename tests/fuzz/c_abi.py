"""Drives the native library with arguments made of arbitrary bytes: `python -m fuzz.c_abi FILE...`.

Every call must end with a result or with one error; afterwards the arena's own account must hold. A crash ends the
process, so this runs in one of its own.
"""

import itertools
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from coe import native
from coe.platform.errors import CoEError
from fuzz.draw import Draw
from fuzz.ops import run_op

CAPACITY, SLOTS = 4 << 20, 8
SIZES = (1, 63, 64, 4096, 100_000, 1 << 20, 3 << 20)
MAX_CALLS = 64
WAIT_S = 10.0
ERRORS = (ValueError, CoEError)


class World:
    """An arena with files to load and what is being loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.arena = native.HbmArena.create(f"coe-fuzz-{os.getpid()}", CAPACITY, slots=SLOTS)
        self.arena.bind()
        self._files = []
        for size in SIZES:
            path = folder / str(size)
            path.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
            self._files.append(native.WeightsFile.open(path, [native.checksum(path.read_bytes())], 4 << 20))
        self._loads: list[native.Load] = []

    def call(self, draw: Draw) -> None:
        calls = (self._load, self._load, self._free, self._slot, self._end, self._open, self._make, self._threads)
        choice = draw.below(len(calls) + 4)
        if choice < len(calls):
            calls[choice](draw)
        else:
            run_op(draw, self._handle(draw))

    def check(self) -> None:
        """Live slots lie inside the arena, apart from each other, and nothing beyond what was loaded is in place."""
        live = []
        for index in range(SLOTS):
            slot = self.arena.slot(index)
            if slot.state is not native.SlotState.FREE:
                assert slot.watermark <= slot.nbytes
                assert slot.offset + slot.nbytes <= CAPACITY
                live.append((slot.offset, slot.offset + slot.nbytes))
        live.sort()
        assert all(one[1] <= two[0] for one, two in itertools.pairwise(live)), live

    def reset(self) -> None:
        for load in self._loads:
            load.cancel()
            assert load.wait(WAIT_S)
        self._loads.clear()
        for index in range(SLOTS):
            if self.arena.slot(index).state is native.SlotState.RESIDENT:
                self.arena.free(index)
            assert self.arena.slot(index).state is native.SlotState.FREE
        native.set_threads(2)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self.arena.close()
        self.arena.unlink()

    def _load(self, draw: Draw) -> None:
        file = draw.of(self._files)
        rate = draw.of((None, 0.0, -1.0, 1e-300, 1e6, 1e300, float("inf"), float("nan")))
        threads = draw.of((0, 1, 2, 3))
        verify = bool(draw.below(2))
        self._loads.append(
            self.arena.load(
                draw.integer(SLOTS), draw.integer(CAPACITY), file, verify=verify, threads=threads, bytes_per_second=rate
            )
        )

    def _free(self, draw: Draw) -> None:
        self.arena.free(draw.integer(SLOTS))

    def _slot(self, draw: Draw) -> None:
        self.arena.slot(draw.integer(SLOTS))

    def _end(self, draw: Draw) -> None:
        for load in self._loads:
            if draw.below(2):
                load.cancel()
            load.wait(draw.of((0.0, -1.0, 0.01)))
            assert load.bytes_copied <= max(SIZES)
            assert load.failure is None or load.error

    def _open(self, draw: Draw) -> None:
        path = draw.of([self._folder / str(size) for size in SIZES] + [self._folder, Path("/nowhere"), Path()])
        sums = [draw.integer(1 << 32) & 0xFFFFFFFF for _ in range(draw.below(3))]
        native.WeightsFile.open(path, sums, draw.integer(1 << 22)).close()

    def _make(self, draw: Draw) -> None:
        """Small arenas and impossible ones; nothing between, which the machine might really give."""
        name = draw.of(("", "/", "a/b", "x" * 300, self.arena.name, f"coe-fuzz-other-{os.getpid()}"))
        capacity = draw.of((0, 1, 4096, 1 << 20, 1 << 62, (1 << 64) - 1))
        slots = draw.of((0, 1, 7, 65536, 65537, (1 << 32) - 1))
        made = native.HbmArena.create(name, capacity, slots)
        try:
            native.HbmArena.attach(name).close()
        finally:
            made.close()
            made.unlink()

    def _threads(self, draw: Draw) -> None:
        native.set_threads(draw.of((0, 1, 2, 3, 1025, (1 << 32) - 1)))

    def _handle(self, draw: Draw) -> int:
        """A lease that holds, or was made up."""
        index = draw.below(SLOTS)
        if draw.below(4):
            return native.lease_handle(index, self.arena.slot(index).generation)
        return draw.integer(1 << 20)


def drive(world: World, data: bytes) -> None:
    draw = Draw(data)
    for _ in range(MAX_CALLS):
        if draw.empty:
            break
        with suppress(*ERRORS):
            world.call(draw)
        world.check()
    world.reset()


def main(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            for path in paths:
                sys.stderr.write(f"{path}\n")
                drive(world, Path(path).read_bytes())
        finally:
            world.close()


if __name__ == "__main__":
    main(sys.argv[1:])
