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
    """One slot's record. Offsets and sizes are bytes; [0, watermark) of the slot is in place. `tag`: what was given to
    the load, for whoever adopts the arena."""

    state: SlotState
    generation: int
    offset: int
    nbytes: int
    watermark: int
    tag: int = 0


class HbmArena:
    """Created by its one owner (the tier manager), attached by readers (workers). Only the owner loads and frees."""

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
        """Reserves `capacity` bytes. Replaces an arena whose owner is gone (its readers' leases turn stale); raises
        CapacityExceeded while another process owns it, TierLoadError when the memory is not to be had."""
        return cls(name, make_handle("coe_arena_create", name.encode(), capacity, slots))

    @classmethod
    def adopt(cls, name: str, capacity: int, slots: int = 1024) -> Self:
        """Goes on with the arena of an owner that died without closing it: RESIDENT slots and their leases stay,
        LOADING ones are FREE. Raises CapacityExceeded while another process owns it, TierLoadError or ChecksumMismatch
        when there is none of this capacity and number of slots to go on with."""
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
        """Starts to copy `source` to [offset, offset + source.nbytes), `offset` a multiple of 64 bytes.

        The slot must be FREE: it gets a new generation and is LOADING, its watermark rises in file order, and it is
        RESIDENT at the end. `nbytes`: only so many first bytes, whole chunks when they are verified. `prefix`: a
        RESIDENT slot of the same tag that holds the first bytes; they come from there, unthrottled and unverified, and
        it must stay until the load is done. Raises CapacityExceeded when slot or range are in use, ValueError outside
        the capacity.
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
        """RESIDENT -> FREE; every handle of the old generation is stale from now on. CapacityExceeded while LOADING."""
        check(library().coe_arena_free(self.handle, slot))

    def bind(self) -> None:
        """The custom ops of this process resolve leases in this arena."""
        check(library().coe_arena_bind(self.handle))

    def close(self) -> None:
        """Gives the mapping back; when the owner closes, every lease of every process turns stale."""
        if self._handle is not None:
            library().coe_arena_close(self._handle)
            self._handle = None

    def unlink(self) -> None:
        """Removes the name. Memory is given back when the last process has closed it."""
        check(library().coe_arena_unlink(self.name.encode()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
