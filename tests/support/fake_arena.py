"""The arena in plain memory, with copies that end when a test says so."""

import threading
from collections.abc import Iterable

from coe.memory_tier_manager.arena import Facts
from coe.platform.errors import CapacityExceeded, ExpertNotFound, TierLoadError


class FakeSource:
    """`nbytes` of weights. A copy of a damaged one fails. Reading it takes until `readable` is set."""

    def __init__(
        self, nbytes: int, *, damaged: bool = False, readable: threading.Event | None = None, tag: int = 1
    ) -> None:
        self.nbytes = nbytes
        self.damaged = damaged
        self.tag = tag
        self.closed = False
        self.loads = 0
        # What reads it can't be stopped.
        self.hangs = False
        self._readable = readable

    def lock(self) -> bool:
        if self._readable is not None:
            assert self._readable.wait(30.0)
        return True

    def loaded(self) -> None:
        self.loads += 1

    def close(self) -> None:
        self.closed = True


class FakeCopy:
    def __init__(self, arena: "FakeArena", slot: int, generation: int, source: FakeSource) -> None:
        self.generation = generation
        self.failure: Exception | None = None
        self.bytes_copied = 0
        self.cancelled = False
        self._arena = arena
        self._slot = slot
        self._source = source
        self._over = threading.Event()

    @property
    def done(self) -> bool:
        return self._over.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._over.wait(timeout_s)

    def cancel(self) -> None:
        """Takes effect at once, unless its disk hangs."""
        self.cancelled = True
        if not self._source.hangs:
            self._end(CapacityExceeded("cancelled"))

    def finish(self) -> None:
        self._end(TierLoadError("damaged") if self._source.damaged else None)

    def _end(self, failure: Exception | None) -> None:
        if not self.done:
            self.failure = failure
            self.bytes_copied = self._source.nbytes if failure is None else self.bytes_copied
            self._arena.ended(self._slot, whole=failure is None)
            self._over.set()


class FakeArena:
    """`by_hand`: copies end by `copies[slot].finish()`, else at once."""

    def __init__(self, name: str, capacity: int, slots: int, *, by_hand: bool = False) -> None:
        self.name, self.capacity, self.slots = name, capacity, slots
        self.epoch = 7
        self.copies: dict[int, FakeCopy] = {}
        self.closed = False
        self._by_hand = by_hand
        self._generations = [0] * slots
        self._live: dict[int, tuple[int, int, bool]] = {}

    def copy(
        self, slot: int, offset: int, source: FakeSource, nbytes: int | None = None, part_slot: int | None = None
    ) -> FakeCopy:
        assert part_slot is None or self.is_resident(part_slot)
        end = offset + (nbytes or source.nbytes)
        if slot in self._live or any(start < end and offset < stop for start, stop, _ in self._live.values()):
            raise CapacityExceeded("slot or range are in use")
        if offset < 0 or end > self.capacity:
            raise ValueError("outside the arena")
        self._generations[slot] += 1
        self._live[slot] = (offset, end, False)
        copy = self.copies[slot] = FakeCopy(self, slot, self._generations[slot], source)
        if not self._by_hand:
            copy.finish()
        return copy

    def ended(self, slot: int, *, whole: bool) -> None:
        start, stop, _ = self._live.pop(slot)
        if whole:
            self._live[slot] = (start, stop, True)

    def is_resident(self, slot: int) -> bool:
        return slot in self._live and self._live[slot][2]

    def free(self, slot: int) -> None:
        if slot in self._live and not self._live[slot][2]:
            raise CapacityExceeded("the slot is loading")
        self._live.pop(slot, None)
        self._generations[slot] += 1

    def close(self) -> None:
        self.closed = True


class FakeLibrary:
    """Experts by name and size."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.damaged: set[str] = set()
        self.slow: dict[str, threading.Event] = {}
        # Reading these can't be stopped.
        self.hanging: set[str] = set()
        self.opened: list[FakeSource] = []
        # Of experts that were imported anew.
        self.tags: dict[str, int] = {}
        # Experts on a mount that does not even answer for names, until it does.
        self.dead: dict[str, threading.Event] = {}

    def open(self, expert: str) -> FakeSource:
        self._ask_mount(expert)
        readable = self.slow.get(expert)
        source = FakeSource(
            self.nbytes(expert),
            damaged=expert in self.damaged,
            readable=readable,
            tag=self.tags.get(expert, 1),
        )
        source.hangs = expert in self.hanging
        self.opened.append(source)
        return source

    def nbytes(self, expert: str) -> int:
        if expert not in self.sizes:
            raise ExpertNotFound(f"no expert {expert}")
        return self.sizes[expert]

    def look(self, expert: str) -> Facts:
        self._ask_mount(expert)
        return Facts(self.tags.get(expert, 1), self.nbytes(expert))

    def changed(self, experts: Iterable[str]) -> list[str]:
        for expert in (names := list(experts)):
            self._ask_mount(expert)
        return names

    def experts(self) -> dict[str, Facts]:
        return {expert: self.look(expert) for expert in self.sizes}

    def _ask_mount(self, expert: str) -> None:
        if (answers := self.dead.get(expert)) is not None:
            assert answers.wait(30.0)
