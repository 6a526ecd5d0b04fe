"""The port on real memory: coe.native's shared-memory arena, and bundles of the catalogue."""

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

# Where arenas have their names.
SHARED_MEMORY = Path("/dev/shm")


class NativeArena:
    """Owns the arena: creates it, or adopts that of a manager that died; takes its name away at the end.

    `bytes_per_second` 0: unthrottled.
    """

    def __init__(self, name: str, capacity: int, slots: int, *, threads: int, bytes_per_second: float) -> None:
        try:
            self._arena = HbmArena.adopt(name, capacity, slots)
        except (TierLoadError, ChecksumMismatch):
            # None is there, or none to go on with.
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
            part_slot = None  # of an expert of that name which was imported anew since
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
        """What the former manager left: `experts` maps tags to keys and sizes. Frees what is none of them whole."""
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
        """Whether a worker that starts finds it: whoever may write there can remove it, or put another in its place."""
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
    """A weights file whose checksums are compared until a whole load went well. What is read from the disk again, as
    after it left DDR, is another one: the disk may give other bytes then.
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
    """Experts of a catalogue. An expert imported later is found when it is asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._bundles = KnownBundles(catalogue)

    def open(self, expert: str) -> VerifiedOnce:
        bundle = self._bundle(expert)
        manifest = bundle.manifest
        try:
            file = WeightsFile.open(bundle.weights_path, manifest.checksums, manifest.chunk_bytes)
        except ValueError as error:
            raise TierLoadError(f"{bundle.weights_path} can't be loaded: {error}", expert=expert) from error
        if self._bundles.changed([expert]):
            file.close()
            raise TierLoadError(f"{expert} was re-imported in the meantime: try again", expert=expert)
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
            raise TierLoadError(f"{expert} can't be read: {error}", expert=expert) from error


def _facts(bundle: Bundle) -> Facts:
    return Facts(bundle.weights_tag, bundle.weights_bytes)
