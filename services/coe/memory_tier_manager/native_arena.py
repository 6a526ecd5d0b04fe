"""The port on real memory: coe.native's shared-memory arena, and bundles of the catalogue."""

import hashlib
from collections.abc import Callable, Mapping
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
    """A weights file whose checksums are compared on its first whole load, not on every one."""

    def __init__(self, file: WeightsFile, verified: Callable[[], bool], tag: int = 0) -> None:
        self.file = file
        self.tag = tag
        self._verified = verified

    @property
    def needs_check(self) -> bool:
        return not self._verified()

    @property
    def nbytes(self) -> int:
        return self.file.nbytes

    def lock(self) -> bool:
        return self.file.lock()

    def unlock(self) -> None:
        self.file.unlock()

    def close(self) -> None:
        self.file.close()


class BundleLibrary:
    """Experts of a catalogue. Manifests are read once; an expert imported later is found when it is asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._sizes: dict[str, int] = {}
        self._loaded: set[str] = set()

    def open(self, expert: str) -> VerifiedOnce:
        bundle = self._catalogue.get(expert)
        manifest = bundle.manifest
        if bundle.weights_bytes != self._sizes.setdefault(expert, bundle.weights_bytes):
            # Room was made for the former bundle of that name.
            self._sizes[expert] = bundle.weights_bytes
            self._loaded.discard(expert)
            raise TierLoadError(f"{expert} was imported anew meanwhile: try again", expert=expert)
        file = WeightsFile.open(bundle.weights_path, manifest.checksums, manifest.chunk_bytes)
        return VerifiedOnce(file, lambda: expert in self._loaded, tag_of(bundle))

    def loaded(self, expert: str) -> None:
        # Its checksums were right.
        self._loaded.add(expert)

    def nbytes(self, expert: str) -> int:
        size = self._sizes.get(expert)
        if size is None:
            size = self._sizes[expert] = self._catalogue.get(expert).weights_bytes
        return size

    def tags(self) -> dict[int, tuple[str, int]]:
        """Of every expert's bytes: its name and size."""
        return {tag_of(bundle): (bundle.id, bundle.weights_bytes) for bundle in self._catalogue.list()}

    def experts(self) -> dict[str, int]:
        self._sizes = {bundle.id: bundle.weights_bytes for bundle in self._catalogue.list()}
        return dict(self._sizes)


def tag_of(bundle: Bundle) -> int:
    """64 bits of its name and of the checksums of its bytes; never 0."""
    facts = f"{bundle.id} {bundle.weights_bytes} {list(bundle.manifest.checksums)}"
    return int.from_bytes(hashlib.blake2b(facts.encode(), digest_size=8).digest(), "little") | 1
