"""Byte accounting for one tier: reserved, resident and still being freed. No byte is promised twice."""

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """Invariant: reserved + resident + freeing <= capacity. Bytes, rounded to the tier's allocation units, if any."""

    capacity: int
    reserved: int = 0
    resident: int = 0
    freeing: int = 0

    @property
    def used(self) -> int:
        return self.reserved + self.resident + self.freeing

    @property
    def free(self) -> int:
        return self.capacity - self.used

    def can_reserve(self, nbytes: int) -> bool:
        return nbytes <= self.free

    def reserve(self, nbytes: int) -> None:
        if not self.can_reserve(nbytes):
            raise ValueError(f"{nbytes} bytes do not fit: {self.free} free of {self.capacity}")
        self.reserved += nbytes

    def arrived(self, nbytes: int) -> None:
        """Reserved bytes are now resident."""
        self._check(self.reserved, nbytes)
        self.reserved -= nbytes
        self.resident += nbytes

    def drop(self, nbytes: int) -> None:
        """Resident bytes are being freed."""
        self._check(self.resident, nbytes)
        self.resident -= nbytes
        self.freeing += nbytes

    def abandon(self, nbytes: int) -> None:
        """Reserved bytes are being freed: their load was cancelled or failed."""
        self._check(self.reserved, nbytes)
        self.reserved -= nbytes
        self.freeing += nbytes

    def freed(self, nbytes: int) -> None:
        self._check(self.freeing, nbytes)
        self.freeing -= nbytes

    def _check(self, have: int, nbytes: int) -> None:
        if nbytes > have:
            raise ValueError(f"{nbytes} bytes leave a state that holds {have}")
