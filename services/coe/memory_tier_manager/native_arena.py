"""The port on real memory: coe.native's shared-memory arena, and bundles of the catalogue."""

import hashlib
from collections.abc import Mapping
from typing import cast

from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.memory_tier_manager.arena import Copy, Source
from coe.memory_tier_manager.events import Resident
from coe.memory_tier_manager.extents import ALIGNMENT
from coe.native import HbmArena, SlotState, WeightsFile
from coe.platform.errors import ChecksumMismatch, TierLoadError


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
        """What the former manager left: `experts` maps tags to names and sizes. Frees what is none of them whole."""
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

    def close(self) -> None:
        self._arena.close()
        self._arena.unlink()


class VerifiedOnce:
    """A weights file whose checksums are compared until a whole load went well: `verified` holds the tags of such."""

    def __init__(self, file: WeightsFile, verified: set[int], tag: int = 0) -> None:
        self.file = file
        self.tag = tag
        self._verified = verified

    @property
    def needs_check(self) -> bool:
        return self.tag not in self._verified

    @property
    def nbytes(self) -> int:
        return self.file.nbytes

    def lock(self) -> bool:
        return self.file.lock()

    def unlock(self) -> None:
        self.file.unlock()

    def loaded(self) -> None:
        self._verified.add(self.tag)

    def close(self) -> None:
        self.file.close()


class BundleLibrary:
    """Experts of a catalogue. Manifests are read once; an expert imported later is found when it is asked for.

    Sizes of experts that are gone are kept: their bytes may be in a tier still.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._sizes: dict[str, int] = {}
        self._verified: set[int] = set()

    def open(self, expert: str) -> VerifiedOnce:
        bundle = self._bundle(expert)
        manifest = bundle.manifest
        self._sizes[expert] = bundle.weights_bytes
        try:
            file = WeightsFile.open(bundle.weights_path, manifest.checksums, manifest.chunk_bytes)
        except ValueError as error:
            raise TierLoadError(f"{bundle.weights_path} can't be loaded: {error}", expert=expert) from error
        return VerifiedOnce(file, self._verified, tag_of(bundle))

    def nbytes(self, expert: str) -> int:
        size = self._sizes.get(expert)
        if size is None:
            size = self._sizes[expert] = self._bundle(expert).weights_bytes
        return size

    def tags(self) -> dict[int, tuple[str, int]]:
        """Of every expert's bytes: its name and size."""
        return {tag_of(bundle): (bundle.id, bundle.weights_bytes) for bundle in self._list()}

    def experts(self) -> dict[str, int]:
        return {bundle.id: bundle.weights_bytes for bundle in self._list()}

    def _list(self) -> list[Bundle]:
        found = self._catalogue.list()
        self._sizes.update({bundle.id: bundle.weights_bytes for bundle in found})
        return found

    def _bundle(self, expert: str) -> Bundle:
        try:
            return self._catalogue.get(expert)
        except OSError as error:
            raise TierLoadError(f"{expert} can't be read: {error}", expert=expert) from error


def tag_of(bundle: Bundle) -> int:
    """64 bits of its name and of the checksums of its bytes; never 0."""
    facts = f"{bundle.id} {bundle.weights_bytes} {list(bundle.manifest.checksums)}"
    return int.from_bytes(hashlib.blake2b(facts.encode(), digest_size=8).digest(), "little") | 1
