"""The HBM tier: extents and slots of the arena, what lies in them, and the link that fills them one copy at a time.

One copy at a time, because two would share the same bandwidth and both arrive late. Copies that somebody waits for
overtake those that are only a prefetch. A copy that waits for its disk steps aside: it needs hardly any of the link.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from coe.memory_tier_manager.budget import Budget
from coe.memory_tier_manager.extents import ALIGNMENT, Extents
from coe.memory_tier_manager.tiers import State


@dataclass(slots=True)
class HbmEntry:
    """`nbytes` are the weights, `taken` the extent. `generation` is None until the arena has accepted the copy.

    `from_ddr`: it is read through the DDR tier; `was_in_ddr`: all of it was there when the load was asked for.
    `part_of`: only the first layers of that expert (coe.memory_tier_manager.parts); `expert` is then the part's name.
    `saved`: bytes that came from such a part and not over the link. `demanded`: it is loaded for requests alone, and
    not any more when the last of them is taken back. `recalled`: it leaves as soon as its leases have ended.
    `moves`: its bytes come, so that who reads them waits for no disk that may not answer.
    `hangs`: its copy has taken so long that nobody can tell when its bytes will be free.
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
        """Whose weights file it is copied from."""
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
        # The copy that has the link, and those that wait for their disks.
        self.copying: str | None = None
        self.aside: set[str] = set()
        self._slots = deque(range(slots))
        self._queue: deque[str] = deque()

    @property
    def has_slot(self) -> bool:
        """One is free, or will be when what is being freed is."""
        return bool(self._slots) or any(
            entry.state is State.FREEING and not entry.hangs for entry in self.entries.values()
        )

    @property
    def free_slots(self) -> Collection[int]:
        """In the order in which they will be used."""
        return self._slots

    @free_slots.setter
    def free_slots(self, slots: Collection[int]) -> None:
        """Another order of the same."""
        if sorted(slots) != sorted(self._slots):
            raise ValueError("these are not the free slots")
        self._slots = deque(slots)

    @property
    def link_idle(self) -> bool:
        return self.copying is None and not self._queue

    def can_hold(self, nbytes: int) -> bool:
        """Whether it fits the empty tier."""
        return self.extents.rounded(nbytes) <= self.extents.capacity

    def can_place(self, nbytes: int) -> bool:
        return bool(self._slots) and self.extents.can_allocate(nbytes)

    def when_freed(self) -> Extents:
        """The extents as they will be when everything that is being freed is free."""
        extents = self.extents.copy()
        for entry in self.entries.values():
            if entry.state is State.FREEING and not entry.hangs:
                extents.free(entry.offset)
        return extents

    def place(self, expert: str, nbytes: int, now: float, *, urgent: bool, part_of: str = "") -> HbmEntry:
        """Reserves room and queues the copy. ValueError when it is there already or does not fit."""
        if expert in self.entries or not self._slots:
            raise ValueError(f"{expert} can't be placed")
        extent = self.extents.allocate(nbytes)
        self.budget.reserve(extent.nbytes)
        entry = HbmEntry(expert, nbytes, extent.nbytes, self._slots.popleft(), extent.offset, now, now)
        entry.urgent = entry.demanded = urgent
        entry.part_of = part_of
        self.entries[expert] = entry
        self._queue.append(expert)
        return entry

    def adopt(self, expert: str, nbytes: int, slot: int, offset: int, generation: int, now: float) -> None:
        """It is there already. ValueError when slot or bytes are not free."""
        self._slots.remove(slot)
        extent = self.extents.take(offset, nbytes)
        self.budget.reserve(extent.nbytes)
        self.budget.arrived(extent.nbytes)
        self.entries[expert] = HbmEntry(
            expert, nbytes, extent.nbytes, slot, offset, now, now, state=State.RESIDENT, generation=generation
        )

    def next_copy(self, now: float, may_start: Callable[[HbmEntry], bool] = lambda entry: True) -> HbmEntry | None:
        """The copy to start now, if the link is idle and one waits."""
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
        """The copy goes on, others may have the link."""
        if self.copying == expert:
            self.copying = None
            self.aside.add(expert)

    def copy_ended(self, expert: str, now: float, *, whole: bool) -> HbmEntry:
        """Link idle again. A whole copy of an expert that is still wanted makes it resident, else it is FREEING."""
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
        """LOADING -> FREEING; gone at once when its copy has not begun."""
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
        """AssertionError when bytes, slots or states disagree."""
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
