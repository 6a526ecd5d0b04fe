"""The Python façade of arena, loads and files, across real processes."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coe.native import HbmArena, SlotState, WeightsFile, checksum, lease_handle
from coe.platform.errors import ArtifactError, CapacityExceeded, ChecksumMismatch, TierLoadError

CHUNK = 1 << 18
NBYTES = 5 * CHUNK + 777
DEADLINE_S = 30.0


@pytest.fixture
def content() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, NBYTES, np.uint8)


@pytest.fixture
def weights(tmp_path: Path, content: np.ndarray) -> Iterator[WeightsFile]:
    path = tmp_path / "weights.coe"
    path.write_bytes(content.tobytes())
    sums = [checksum(content[at : at + CHUNK]) for at in range(0, NBYTES, CHUNK)]
    with WeightsFile.open(path, sums, CHUNK) as weights:
        yield weights


@pytest.fixture
def arena() -> Iterator[HbmArena]:
    with HbmArena.create(f"coe-test-{os.getpid()}", 8 << 20, slots=4) as arena:
        yield arena
    arena.unlink()


def other_process(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_S).stdout.strip()


def test_a_file_that_is_cut_ends_its_load_and_not_the_process(
    arena: HbmArena, weights: WeightsFile, tmp_path: Path
) -> None:
    os.truncate(tmp_path / "weights.coe", 2 * CHUNK)
    with pytest.raises(TierLoadError, match="reading"):
        weights.lock()
    for _ in range(2):
        load = arena.load(0, 0, weights)
        assert load.wait(DEADLINE_S)
        assert isinstance(load.failure, TierLoadError)
        assert arena.slot(0).state is SlotState.FREE


def test_a_load_becomes_resident(arena: HbmArena, weights: WeightsFile) -> None:
    load = arena.load(1, 4096, weights)
    assert load.wait(DEADLINE_S)
    assert load.error is None
    assert load.bytes_copied == NBYTES
    slot = arena.slot(1)
    assert (slot.state, slot.generation, slot.offset, slot.nbytes, slot.watermark) == (
        SlotState.RESIDENT,
        load.generation,
        4096,
        NBYTES,
        NBYTES,
    )
    arena.free(1)
    assert arena.slot(1).state is SlotState.FREE
    assert arena.slot(1).generation > load.generation


def test_slots_in_use_and_places_outside_are_refused(arena: HbmArena, weights: WeightsFile) -> None:
    assert arena.load(0, 0, weights).wait(DEADLINE_S)
    with pytest.raises(CapacityExceeded, match="not free"):
        arena.load(0, 4 << 20, weights)
    with pytest.raises(CapacityExceeded, match="overlaps"):
        arena.load(1, 4096, weights)
    with pytest.raises(ValueError, match="leave the arena"):
        arena.load(1, 8 << 20, weights)
    with pytest.raises(ValueError, match="no slot 9"):
        arena.slot(9)


def test_cancelling_frees_the_slot(arena: HbmArena, weights: WeightsFile) -> None:
    load = arena.load(0, 0, weights, threads=1, bytes_per_second=1.0)
    with pytest.raises(CapacityExceeded, match="cancel"):
        arena.free(0)
    load.cancel()
    assert load.wait(DEADLINE_S)
    assert load.error == "cancelled"
    assert arena.slot(0).state is SlotState.FREE
    assert arena.slot(0).generation != load.generation


def test_a_dropped_load_is_cancelled(arena: HbmArena, weights: WeightsFile) -> None:
    load = arena.load(0, 0, weights, bytes_per_second=1.0)
    del load
    gc.collect()
    assert arena.slot(0).state is SlotState.FREE


def test_a_damaged_chunk_is_found(arena: HbmArena, tmp_path: Path, content: np.ndarray) -> None:
    path = tmp_path / "damaged.coe"
    sums = [checksum(content[at : at + CHUNK]) for at in range(0, NBYTES, CHUNK)]
    content[2 * CHUNK] ^= 1
    path.write_bytes(content.tobytes())
    with WeightsFile.open(path, sums, CHUNK) as weights:
        load = arena.load(0, 0, weights)
        assert load.wait(DEADLINE_S)
    assert isinstance(load.failure, ChecksumMismatch)
    assert "chunk 2" in str(load.error)
    assert arena.slot(0).state is SlotState.FREE


def test_files_that_do_not_fit_their_checksums(tmp_path: Path) -> None:
    with pytest.raises(TierLoadError, match="No such file"):
        WeightsFile.open(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(ChecksumMismatch):
        WeightsFile.open(tmp_path / "short", [1, 2])


def test_locking_says_whether_it_held(weights: WeightsFile) -> None:
    before = locked_bytes()
    assert weights.lock() is (locked_bytes() > before)


def locked_bytes() -> int:
    """Of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck:"))
    return int(line.split()[1]) << 10


def test_another_process_sees_slots_but_changes_nothing(arena: HbmArena, weights: WeightsFile) -> None:
    load = arena.load(2, 0, weights)
    assert load.wait(DEADLINE_S)
    code = """if True:
        import sys
        from coe.native import HbmArena
        arena = HbmArena.attach(sys.argv[1])
        slot = arena.slot(2)
        try:
            arena.free(2)
        except ValueError as error:
            print(slot.state.name, slot.generation, slot.watermark, error)
    """
    seen = other_process(code, arena.name)
    assert seen == f"RESIDENT {load.generation} {NBYTES} only the process that created the arena may free a slot"


def test_an_arena_has_one_owner_and_outlives_no_crash(weights: WeightsFile) -> None:
    code = """if True:
        import os, sys
        from coe.native import HbmArena
        arena = HbmArena.create(sys.argv[1], 1 << 20)
        print(arena.epoch, flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.read()
        os._exit(0)
    """
    name = f"coe-test-crash-{os.getpid()}"
    owner = subprocess.Popen(
        [sys.executable, "-c", code, name, "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        epoch = int(owner.stdout.readline())
        with pytest.raises(CapacityExceeded, match="owner"):
            HbmArena.create(name, 1 << 20)
    finally:
        owner.kill()
        owner.communicate(timeout=DEADLINE_S)
    with HbmArena.create(name, 1 << 20) as arena:
        assert arena.epoch != epoch
    arena.unlink()


def test_foreign_shared_memory_is_not_attached() -> None:
    name = f"coe-test-foreign-{os.getpid()}"
    path = Path("/dev/shm") / name
    path.write_bytes(b"x" * 8192)
    try:
        with pytest.raises(ChecksumMismatch, match="header"):
            HbmArena.attach(name)
    finally:
        path.unlink()


def test_lease_handles() -> None:
    assert lease_handle(3, 5) == 5 << 16 | 3
    with pytest.raises(ValueError, match="slot"):
        lease_handle(1 << 16, 1)
    with pytest.raises(ValueError, match="generation"):
        lease_handle(0, 1 << 47)


def test_checksum_is_crc32c() -> None:
    assert checksum(b"123456789") == 0xE3069283
    assert checksum(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283


def test_importing_works_without_the_library_and_use_says_what_to_do(tmp_path: Path) -> None:
    code = """if True:
        import coe.native._search as search
        from pathlib import Path
        search.LIBRARY = "libnone.so"
        from coe import native
        try:
            native.checksum(b"")
        except native._library.CoEError as error:
            print(type(error).__name__, error)
    """
    assert other_process(code).startswith("ArtifactError libnone.so is not built")
    assert issubclass(ArtifactError, Exception)


DYING_OWNER = """
import os, signal, sys
from coe.native import HbmArena, WeightsFile
arena = HbmArena.create(sys.argv[1], 8 << 20, slots=4)
source = WeightsFile.open(sys.argv[2])
assert arena.load(0, 0, source, tag=5).wait(20)
slow = arena.load(1, 4 << 20, source, bytes_per_second=1.0, tag=6)
print(arena.slot(0).generation, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_successor_of_a_killed_owner_adopts_its_arena(tmp_path: Path, content: np.ndarray) -> None:
    name, path = f"coe-test-adopt-{os.getpid()}", tmp_path / "weights.coe"
    path.write_bytes(content.tobytes())
    with pytest.raises(TierLoadError):
        HbmArena.adopt(name, 8 << 20, slots=4)
    owner = subprocess.run(
        [sys.executable, "-c", DYING_OWNER, name, path], capture_output=True, text=True, timeout=DEADLINE_S
    )
    generation = int(owner.stdout)
    with HbmArena.adopt(name, 8 << 20, slots=4) as arena:
        assert arena.owner
        slot = arena.slot(0)
        assert (slot.state, slot.generation, slot.tag) == (SlotState.RESIDENT, generation, 5)
        assert arena.slot(1).state is SlotState.FREE
        with pytest.raises(CapacityExceeded):
            HbmArena.adopt(name, 8 << 20, slots=4)
    with pytest.raises(TierLoadError, match="closed"):
        HbmArena.adopt(name, 8 << 20, slots=4)
    arena.unlink()


def test_a_prefix_saves_its_bytes(arena: HbmArena, weights: WeightsFile) -> None:
    assert arena.load(0, 0, weights, tag=9, nbytes=2 * CHUNK).wait(DEADLINE_S)
    assert arena.slot(0).nbytes == 2 * CHUNK
    load = arena.load(1, 4 << 20, weights, tag=9, prefix=0)
    assert load.wait(DEADLINE_S)
    assert load.bytes_copied == NBYTES - 2 * CHUNK
    assert arena.slot(1).watermark == NBYTES
