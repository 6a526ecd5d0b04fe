"""Allocates extents of the arena: best fit, aligned, merged with free neighbours when freed."""

from bisect import bisect_left, insort
from dataclasses import dataclass

ALIGNMENT = 2 * 1024 * 1024  # a huge page


def rounded(nbytes: int, alignment: int = ALIGNMENT) -> int:
    """The bytes that an allocation of `nbytes` actually takes."""
    return max(-(-nbytes // alignment), 1) * alignment


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


class Extents:
    """`capacity` is rounded down to a multiple of `alignment`."""

    def __init__(self, capacity: int, alignment: int = ALIGNMENT) -> None:
        self.alignment = alignment
        self.capacity = capacity // alignment * alignment
        self._free = [Extent(0, self.capacity)] if self.capacity else []
        self._used: dict[int, Extent] = {}

    def rounded(self, nbytes: int) -> int:
        """The bytes that an allocation of `nbytes` takes here."""
        return rounded(nbytes, self.alignment)

    def can_allocate(self, nbytes: int) -> bool:
        return self.largest >= self.rounded(nbytes)

    def allocate(self, nbytes: int) -> Extent:
        """Takes the smallest free extent that fits; among equals, the lowest. Raises ValueError if there is none."""
        need = self.rounded(nbytes)
        fitting = [extent for extent in self._free if extent.nbytes >= need]
        if not fitting:
            raise ValueError(f"no free extent of {need} bytes: the largest is {self.largest}")
        best = min(fitting, key=lambda extent: (extent.nbytes, extent.offset))
        self._free.remove(best)
        if best.nbytes > need:
            insort(self._free, Extent(best.offset + need, best.nbytes - need))
        taken = Extent(best.offset, need)
        self._used[taken.offset] = taken
        return taken

    def take(self, offset: int, nbytes: int) -> Extent:
        """Allocates exactly at `offset`. Raises ValueError if that is not free or not aligned."""
        taken = Extent(offset, self.rounded(nbytes))
        around = next((free for free in self._free if free.offset <= offset and taken.end <= free.end), None)
        if around is None or offset % self.alignment:
            raise ValueError(f"{taken.nbytes} bytes at {offset} are not free")
        self._free.remove(around)
        for rest in (Extent(around.offset, offset - around.offset), Extent(taken.end, around.end - taken.end)):
            if rest.nbytes:
                insort(self._free, rest)
        self._used[offset] = taken
        return taken

    def free(self, offset: int) -> int:
        """Returns the bytes freed. Raises KeyError if nothing is allocated there."""
        extent = self._used.pop(offset)
        freed = extent.nbytes
        at = bisect_left(self._free, extent)
        if at < len(self._free) and extent.end == self._free[at].offset:
            extent = Extent(extent.offset, extent.nbytes + self._free.pop(at).nbytes)
        if at > 0 and self._free[at - 1].end == extent.offset:
            before = self._free.pop(at - 1)
            extent = Extent(before.offset, before.nbytes + extent.nbytes)
        insort(self._free, extent)
        return freed

    def copy(self) -> "Extents":
        """A copy to try allocations on."""
        twin = Extents(0, self.alignment)
        twin.capacity, twin._free, twin._used = self.capacity, list(self._free), dict(self._used)
        return twin

    @property
    def largest(self) -> int:
        return max((extent.nbytes for extent in self._free), default=0)

    @property
    def used_bytes(self) -> int:
        return sum(extent.nbytes for extent in self._used.values())

    def check_integrity(self) -> None:
        """Raises AssertionError unless free and used extents tile the arena and no two free ones are adjacent."""
        tiles = sorted([*self._free, *self._used.values()])
        at = 0
        for tile in tiles:
            assert tile.offset == at, f"gap or overlap at {at}"
            assert tile.nbytes > 0
            assert tile.nbytes % self.alignment == 0
            at = tile.end
        assert at == self.capacity, f"tiles end at {at} of {self.capacity}"
        for first, second in zip(self._free, self._free[1:], strict=False):
            assert first.end < second.offset, "free neighbours are not merged"
