"""The HBM tier: the arena's extents and slots, what is in them, and the link that fills them.

The link carries one copy at a time: two would share the bandwidth and both arrive late. Copies that a request waits for
overtake prefetches. A copy that is waiting for its disk steps aside, since it uses hardly any of the link.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from coe.memory_tier_manager.budget import Budget
from coe.memory_tier_manager.extents import ALIGNMENT, Extents
from coe.memory_tier_manager.tiers import State


@dataclass(slots=True)
class HbmEntry:
    """An expert, or the first layers of one, that occupies a slot and an extent.

    `nbytes`: the size of the weights; `taken`: the size of the extent. `generation`: None until the arena has accepted
    the copy.
    `from_ddr`: copied through the DDR tier. `was_in_ddr`: all of it was in DDR when the load was requested.
    `part_of`: this is only the first layers of that expert (coe.memory_tier_manager.parts); `expert` is the part's
    name. `saved`: bytes that came from such a part instead of over the link.
    `demanded`: loaded only for requests; the load is cancelled if the last of them is withdrawn.
    `recalled`: it leaves as soon as its leases have ended.
    `moves`: its bytes are arriving, so readers won't wait for a disk that may not respond.
    `hangs`: its copy has timed out, and nobody can tell when its bytes will be free.
    """

    expert: str
    nbytes: int
    taken: int
    slot: int
    offset: int
    since: float
    last_used: float
    state: State = State.LOADING
    generation: int | None = None
    copying: bool = False
    urgent: bool = False
    demanded: bool = False
    recalled: bool = False
    from_ddr: bool = False
    was_in_ddr: bool = False
    part_of: str = ""
    saved: int = 0
    moves: bool = False
    hangs: bool = False
    waiters: list[int] = field(default_factory=list)

    @property
    def source(self) -> str:
        """The expert whose weights file it is copied from."""
        return self.part_of or self.expert

    @property
    def joinable(self) -> bool:
        return self.state is not State.FREEING


class Hbm:
    def __init__(self, capacity: int, slots: int, alignment: int = ALIGNMENT) -> None:
        self.extents = Extents(capacity, alignment)
        self.budget = Budget(self.extents.capacity)
        self.entries: dict[str, HbmEntry] = {}
        self.bytes_in = 0
        self.evictions = 0
        # The copy that holds the link, and those that stepped aside.
        self.copying: str | None = None
        self.aside: set[str] = set()
        self._slots = deque(range(slots))
        self._queue: deque[str] = deque()

    @property
    def has_slot(self) -> bool:
        """Whether a slot is free, or will be once the entries being freed are gone."""
        return bool(self._slots) or any(
            entry.state is State.FREEING and not entry.hangs for entry in self.entries.values()
        )

    @property
    def free_slots(self) -> Collection[int]:
        """The free slots, in the order in which they will be used."""
        return self._slots

    @free_slots.setter
    def free_slots(self, slots: Collection[int]) -> None:
        """Reorders the free slots."""
        if sorted(slots) != sorted(self._slots):
            raise ValueError("these are not the free slots")
        self._slots = deque(slots)

    @property
    def link_idle(self) -> bool:
        return self.copying is None and not self._queue

    def can_hold(self, nbytes: int) -> bool:
        """Whether this many bytes fit into the empty tier."""
        return self.extents.rounded(nbytes) <= self.extents.capacity

    def can_place(self, nbytes: int) -> bool:
        return bool(self._slots) and self.extents.can_allocate(nbytes)

    def when_freed(self) -> Extents:
        """The extents as they will be once the entries being freed are gone."""
        extents = self.extents.copy()
        for entry in self.entries.values():
            if entry.state is State.FREEING and not entry.hangs:
                extents.free(entry.offset)
        return extents

    def place(self, expert: str, nbytes: int, now: float, *, urgent: bool, part_of: str = "") -> HbmEntry:
        """Reserves room and queues the copy. Raises ValueError if the expert is already there or does not fit."""
        if expert in self.entries or not self._slots:
            raise ValueError(f"cannot place {expert}: it is already there, or no slot is free")
        extent = self.extents.allocate(nbytes)
        self.budget.reserve(extent.nbytes)
        entry = HbmEntry(expert, nbytes, extent.nbytes, self._slots.popleft(), extent.offset, now, now)
        entry.urgent = entry.demanded = urgent
        entry.part_of = part_of
        self.entries[expert] = entry
        self._queue.append(expert)
        return entry

    def adopt(self, expert: str, nbytes: int, slot: int, offset: int, generation: int, now: float) -> None:
        """Records an expert that is already in the arena. Raises ValueError if its slot or bytes are not free."""
        self._slots.remove(slot)
        extent = self.extents.take(offset, nbytes)
        self.budget.reserve(extent.nbytes)
        self.budget.arrived(extent.nbytes)
        self.entries[expert] = HbmEntry(
            expert, nbytes, extent.nbytes, slot, offset, now, now, state=State.RESIDENT, generation=generation
        )

    def next_copy(self, now: float, may_start: Callable[[HbmEntry], bool] = lambda entry: True) -> HbmEntry | None:
        """The copy to start now, if the link is idle and a copy is waiting."""
        if self.copying is not None:
            return None
        waiting = [name for name in self._queue if may_start(self.entries[name])]
        expert = next((name for name in waiting if self.entries[name].urgent), waiting[0] if waiting else None)
        if expert is None:
            return None
        self._queue.remove(expert)
        entry = self.entries[expert]
        entry.copying, entry.since = True, now
        self.copying = expert
        return entry

    def step_aside(self, expert: str) -> None:
        """Releases the link to other copies; this copy continues."""
        if self.copying == expert:
            self.copying = None
            self.aside.add(expert)

    def copy_ended(self, expert: str, now: float, *, whole: bool) -> HbmEntry:
        """Releases the link. A complete copy of an expert that is still wanted becomes RESIDENT, any other FREEING."""
        entry = self.entries[expert]
        entry.copying = False
        entry.hangs = False
        self.step_aside(expert)
        self.aside.discard(expert)
        if entry.state is State.LOADING:
            if whole:
                entry.state, entry.since = State.RESIDENT, now
                self.budget.arrived(entry.taken)
                self.bytes_in += entry.nbytes - entry.saved
            else:
                entry.state = State.FREEING
                self.budget.abandon(entry.taken)
        return entry

    def drop(self, expert: str) -> HbmEntry:
        """RESIDENT -> FREEING."""
        entry = self.entries[expert]
        if entry.state is not State.RESIDENT:
            raise ValueError(f"{expert} is {entry.state.value}, not resident")
        entry.state = State.FREEING
        self.budget.drop(entry.taken)
        self.evictions += not entry.part_of
        return entry

    def abandon(self, expert: str) -> HbmEntry:
        """LOADING -> FREEING; removed at once if its copy has not begun."""
        entry = self.entries[expert]
        if entry.state is not State.LOADING:
            raise ValueError(f"{expert} is {entry.state.value}, not loading")
        entry.state = State.FREEING
        self.budget.abandon(entry.taken)
        if not entry.copying:
            self._queue.remove(expert)
            self.freed(expert)
        return entry

    def freed(self, expert: str) -> HbmEntry:
        entry = self.entries.pop(expert)
        self.budget.freed(entry.taken)
        self.extents.free(entry.offset)
        self._slots.append(entry.slot)
        return entry

    def check_integrity(self) -> None:
        """Raises AssertionError if bytes, slots or states disagree."""
        self.extents.check_integrity()
        by_state = dict.fromkeys(State, 0)
        for name, entry in self.entries.items():
            assert name == entry.expert
            by_state[entry.state] += entry.taken
            assert not entry.waiters or entry.state is State.LOADING, f"{name}: waiters of a copy that is over"
            assert entry.copying == (name == self.copying or name in self.aside)
            assert not entry.hangs or (entry.copying and entry.state is State.FREEING)
        assert self.copying not in self.aside
        assert self.aside <= self.entries.keys()
        budget = self.budget
        assert (by_state[State.LOADING], by_state[State.RESIDENT], by_state[State.FREEING]) == (
            budget.reserved,
            budget.resident,
            budget.freeing,
        )
        assert budget.used == self.extents.used_bytes
        slots = [entry.slot for entry in self.entries.values()]
        assert len({*slots, *self._slots}) == len(slots) + len(self._slots), "a slot is used twice"
        loading = {name for name, e in self.entries.items() if e.state is State.LOADING and not e.copying}
        assert loading == set(self._queue)
        assert len(self._queue) == len(set(self._queue)), "an expert's copy is queued twice"
