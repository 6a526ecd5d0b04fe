"""The HBM tier of a host: a bounded POSIX shared-memory arena split into slots."""

from ctypes import byref, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from coe.native._library import ArenaInfo, LoadOptions, SlotRecord, check, library, make_handle
from coe.native._load import Load
from coe.native._weights_file import WeightsFile


class SlotState(IntEnum):
    FREE = 0
    LOADING = 1
    RESIDENT = 2


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One slot's record. Offsets and sizes are in bytes; [0, watermark) of the slot is in place. `tag`: as passed to
    `load`; tells a process that adopts the arena what the bytes are."""

    state: SlotState
    generation: int
    offset: int
    nbytes: int
    watermark: int
    tag: int = 0


class HbmArena:
    """Created by its single owner (the tier manager), attached by readers (workers). Only the owner loads and frees."""

    def __init__(self, name: str, handle: c_void_p) -> None:
        self._handle: c_void_p | None = handle
        info = ArenaInfo()
        check(library().coe_arena_info(handle, byref(info)))
        self.name = name
        self.capacity = int(info.capacity)
        self.slots = int(info.slots)
        self.epoch = int(info.epoch)
        self.owner = bool(info.owner)

    @classmethod
    def create(cls, name: str, capacity: int, slots: int = 1024) -> Self:
        """Reserves `capacity` bytes. Replaces an arena whose owner is gone (its readers' leases become stale). Raises
        CapacityExceeded while another process owns it, TierLoadError when the memory is not available."""
        return cls(name, make_handle("coe_arena_create", name.encode(), capacity, slots))

    @classmethod
    def adopt(cls, name: str, capacity: int, slots: int = 1024) -> Self:
        """Takes over the arena of an owner that died without closing it: RESIDENT slots and their leases stay valid,
        LOADING ones become FREE. Raises CapacityExceeded while another process owns it, TierLoadError or
        ChecksumMismatch when there is no usable arena of this capacity and number of slots."""
        return cls(name, make_handle("coe_arena_adopt", name.encode(), capacity, slots))

    @classmethod
    def attach(cls, name: str) -> Self:
        """Opens an arena that another process created. Raises TierLoadError or ChecksumMismatch (a foreign header)."""
        return cls(name, make_handle("coe_arena_attach", name.encode()))

    @property
    def handle(self) -> c_void_p:
        if self._handle is None:
            raise ValueError("the arena is closed")
        return self._handle

    def slot(self, index: int) -> SlotInfo:
        record = SlotRecord()
        check(library().coe_arena_slot(self.handle, index, byref(record)))
        return SlotInfo(
            SlotState(record.state), record.generation, record.offset, record.nbytes, record.watermark, record.tag
        )

    def load(
        self,
        slot: int,
        offset: int,
        source: WeightsFile,
        *,
        verify: bool = True,
        threads: int = 2,
        bytes_per_second: float | None = None,
        tag: int = 0,
        nbytes: int | None = None,
        prefix: int | None = None,
    ) -> Load:
        """Starts copying `source` to [offset, offset + source.nbytes). `offset` is a multiple of 64 bytes.

        The slot must be FREE. It gets a new generation and becomes LOADING; its watermark rises in file order, and it
        is RESIDENT at the end. `nbytes`: copy only the first `nbytes`, which must be whole chunks if they are verified.
        `prefix`: a RESIDENT slot of the same tag with the first bytes of the file. They are copied from there,
        unthrottled and unverified, and the slot must not be freed before the load is done. Raises CapacityExceeded when
        slot or range are in use, ValueError outside the capacity.
        """
        options = LoadOptions(
            tag=tag,
            nbytes=nbytes or 0,
            bytes_per_second=bytes_per_second or 0.0,
            verify=int(verify),
            prefix_slot=-1 if prefix is None else prefix,
            threads=threads,
        )
        return Load(make_handle("coe_arena_load", self.handle, slot, offset, source.handle, byref(options)))

    def free(self, slot: int) -> None:
        """RESIDENT -> FREE. All handles of the old generation become stale. Raises CapacityExceeded while LOADING."""
        check(library().coe_arena_free(self.handle, slot))

    def bind(self) -> None:
        """Makes the custom ops of this process resolve leases in this arena."""
        check(library().coe_arena_bind(self.handle))

    def close(self) -> None:
        """Unmaps the arena. When the owner closes it, all leases of all processes become stale."""
        if self._handle is not None:
            library().coe_arena_close(self._handle)
            self._handle = None

    def unlink(self) -> None:
        """Removes the name. The memory is freed when the last process closes the arena."""
        check(library().coe_arena_unlink(self.name.encode()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
