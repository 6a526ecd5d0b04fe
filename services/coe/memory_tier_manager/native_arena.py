"""Implements the interfaces of arena.py with coe.native's shared-memory arena and the catalogue's bundles."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.known import KnownBundles
from coe.memory_tier_manager.arena import Copy, Facts, Source
from coe.memory_tier_manager.events import Resident
from coe.memory_tier_manager.extents import ALIGNMENT
from coe.native import HbmArena, SlotState, WeightsFile
from coe.platform.errors import ChecksumMismatch, TierLoadError

# The directory in which arenas are named.
SHARED_MEMORY = Path("/dev/shm")


class NativeArena:
    """Owns the arena: creates it, or adopts that of a manager that died; unlinks its name on close.

    `bytes_per_second` 0: unthrottled.
    """

    def __init__(self, name: str, capacity: int, slots: int, *, threads: int, bytes_per_second: float) -> None:
        try:
            self._arena = HbmArena.adopt(name, capacity, slots)
        except (TierLoadError, ChecksumMismatch):
            # There is no arena, or none that can be taken over.
            self._arena = HbmArena.create(name, capacity, slots)
        self.name, self.capacity, self.slots = self._arena.name, self._arena.capacity, self._arena.slots
        self.epoch = self._arena.epoch
        self._inode = self._found_inode()
        self._threads = threads
        self._rate = bytes_per_second or None

    def copy(
        self, slot: int, offset: int, source: Source, nbytes: int | None = None, part_slot: int | None = None
    ) -> Copy:
        file = cast("VerifiedOnce", source)
        if part_slot is not None and self._arena.slot(part_slot).tag != file.tag:
            part_slot = None  # its expert was reimported since
        return self._arena.load(
            slot,
            offset,
            file.file,
            verify=file.needs_check,
            threads=self._threads,
            bytes_per_second=self._rate,
            tag=file.tag,
            nbytes=nbytes,
            prefix=part_slot,
        )

    def found(self, experts: Mapping[int, tuple[str, int]]) -> list[Resident]:
        """What the previous manager left: `experts` maps tags to keys and sizes. Frees all other and partial slots."""
        kept: dict[str, Resident] = {}
        for index in range(self.slots):
            slot = self._arena.slot(index)
            if slot.state is not SlotState.RESIDENT:
                continue
            expert, nbytes = experts.get(slot.tag, ("", 0))
            if slot.nbytes != nbytes or expert in kept or slot.offset % ALIGNMENT:
                self._arena.free(index)
            else:
                kept[expert] = Resident(expert, nbytes, index, slot.offset, slot.generation)
        return list(kept.values())

    def is_resident(self, slot: int) -> bool:
        return self._arena.slot(slot).state is SlotState.RESIDENT

    def free(self, slot: int) -> None:
        self._arena.free(slot)

    @property
    def has_name(self) -> bool:
        """Whether a new worker would find the arena: anyone with write access may have removed or replaced its name."""
        return self._inode is not None and self._found_inode() == self._inode

    def close(self) -> None:
        had_name = self.has_name
        self._arena.close()
        if had_name:
            self._arena.unlink()

    def _found_inode(self) -> int | None:
        try:
            return (SHARED_MEMORY / self.name.lstrip("/")).stat().st_ino
        except FileNotFoundError:
            return None


class VerifiedOnce:
    """A weights file whose checksums are verified until one complete load has succeeded. A file that is read from disk
    again, after leaving DDR, say, gets a new instance: the disk may return different bytes by then.
    """

    def __init__(self, file: WeightsFile, tag: int = 0) -> None:
        self.file = file
        self.tag = tag
        self.needs_check = True

    @property
    def nbytes(self) -> int:
        return self.file.nbytes

    def lock(self) -> bool:
        return self.file.lock()

    def loaded(self) -> None:
        self.needs_check = False

    def close(self) -> None:
        self.file.close()


class BundleLibrary:
    """The experts of a catalogue. An expert imported later is found when it is requested."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._bundles = KnownBundles(catalogue)

    def open(self, expert: str) -> VerifiedOnce:
        bundle = self._bundle(expert)
        manifest = bundle.manifest
        try:
            file = WeightsFile.open(bundle.weights_path, manifest.checksums, manifest.chunk_bytes)
        except ValueError as error:
            raise TierLoadError(f"cannot load {bundle.weights_path}: {error}", expert=expert) from error
        if self._bundles.changed([expert]):
            file.close()
            raise TierLoadError(f"{expert} was reimported meanwhile: try again", expert=expert)
        return VerifiedOnce(file, bundle.weights_tag)

    def look(self, expert: str) -> Facts:
        return _facts(self._bundle(expert))

    def changed(self, experts: Iterable[str]) -> list[str]:
        return self._bundles.changed(experts)

    def experts(self) -> dict[str, Facts]:
        return {bundle.id: _facts(bundle) for bundle in self._catalogue.list()}

    def _bundle(self, expert: str) -> Bundle:
        try:
            return self._bundles.get(expert)
        except OSError as error:
            raise TierLoadError(f"cannot read {expert}: {error}", expert=expert) from error


def _facts(bundle: Bundle) -> Facts:
    return Facts(bundle.weights_tag, bundle.weights_bytes)
