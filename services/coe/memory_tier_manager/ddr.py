"""The DDR tier: weights files read and locked in memory within a byte budget, evicted least recently used first."""

from dataclasses import dataclass

from coe.memory_tier_manager.budget import Budget


@dataclass(slots=True)
class DdrEntry:
    """`copies`: the number of loads into HBM that read from it; while there are any, the entry stays."""

    nbytes: int
    last_used: float
    ready: bool = False
    copies: int = 0
    # It could not be read; it is dropped when its last copy has ended.
    failed: bool = False


class DdrTier:
    """Pure bookkeeping. An expert that does not fit gets no entry: it is loaded from disk, bypassing the tier."""

    def __init__(self, capacity: int) -> None:
        self.budget = Budget(capacity)
        self.entries: dict[str, DdrEntry] = {}
        self.bytes_in = 0
        self.evictions = 0

    def has(self, expert: str) -> bool:
        """Whether all of the expert's bytes are in DDR."""
        entry = self.entries.get(expert)
        return entry is not None and entry.ready

    def touch(self, expert: str, now: float) -> None:
        if expert in self.entries:
            self.entries[expert].last_used = now

    def admit(self, expert: str, nbytes: int, now: float) -> list[str] | None:
        """Makes an entry and returns the experts dropped for it; None if it does not fit alongside those in use."""
        if expert in self.entries:
            raise ValueError(f"{expert} is already in DDR")
        idle = sorted(
            (name for name, entry in self.entries.items() if entry.ready and not entry.copies),
            key=lambda name: self.entries[name].last_used,
        )
        out: list[str] = []
        room = self.budget.free
        while room < nbytes and idle:
            out.append(idle.pop(0))
            room += self.entries[out[-1]].nbytes
        if room < nbytes:
            return None
        for name in out:
            self.drop(name)
            self.evictions += 1
        self.budget.reserve(nbytes)
        self.entries[expert] = DdrEntry(nbytes, now)
        return out

    def ready(self, expert: str) -> None:
        entry = self.entries[expert]
        if not entry.ready:
            entry.ready = True
            self.budget.arrived(entry.nbytes)
            self.bytes_in += entry.nbytes

    def drop(self, expert: str) -> None:
        """Frees the bytes at once: munlock and munmap are immediate."""
        entry = self.entries.pop(expert)
        if entry.ready:
            self.budget.drop(entry.nbytes)
        else:
            self.budget.abandon(entry.nbytes)
        self.budget.freed(entry.nbytes)

    def check_integrity(self) -> None:
        ready = sum(entry.nbytes for entry in self.entries.values() if entry.ready)
        reading = sum(entry.nbytes for entry in self.entries.values() if not entry.ready)
        assert (ready, reading, 0) == (self.budget.resident, self.budget.reserved, self.budget.freeing)
        assert self.budget.used <= self.budget.capacity
        assert all(entry.copies >= 0 for entry in self.entries.values())
