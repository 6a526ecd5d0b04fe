"""A world around the core: performs effects as slowly and in whatever order a test likes, and keeps its own books."""

from dataclasses import dataclass, field

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.tiers import State
from coe.memory_tier_manager.versions import name_of
from coe.platform.errors import Unavailable

UNIT = 1

SIZES = {"a": 4, "b": 4, "c": 4, "big": 8, "huge": 20}


@dataclass
class World:
    """`sizes`: expert -> bytes. Copies, frees and reads end when the test says so."""

    sizes: dict[str, int]
    tiers: Tiers
    now: float = 0.0
    requests: int = 0
    answers: dict[int, fx.Effect] = field(default_factory=dict)
    granted: dict[int, fx.Grant] = field(default_factory=dict)
    copying: dict[str, fx.StartCopy] = field(default_factory=dict)
    # Experts of which no byte comes before `move_copy`, unless they are in memory.
    silent: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    freeing: dict[str, int] = field(default_factory=dict)
    reading: set[str] = field(default_factory=set)
    in_ddr: set[str] = field(default_factory=set)
    evicted: list[str] = field(default_factory=list)
    generation: int = 0
    # Keys of experts that were imported anew.
    current: dict[str, str] = field(default_factory=dict)
    # Of the newest crash: leases whose bytes were all there, and until when they may be claimed.
    claimed: set[ev.Held] = field(default_factory=set)
    claims_end: float = 0.0

    @classmethod
    def of(
        cls,
        sizes: dict[str, int],
        hbm: int,
        ddr: int = 1000,
        policy: str = "lru",
        defaults: tuple[str, ...] = (),
        **limits: float,
    ) -> "World":
        settings = Limits(hbm_bytes=hbm, ddr_bytes=ddr, alignment=UNIT, **limits)  # type: ignore[arg-type]
        return cls(dict(sizes), Tiers(settings, EVICTION[policy], {expert: sizes[expert] for expert in defaults}))

    def send(self, event: ev.Event) -> list[fx.Effect]:
        out: list[fx.Effect] = []
        inbox = [event]
        while inbox:
            for effect in self.tiers.handle(inbox.pop(0), self.now):
                out.append(effect)
                self._perform(effect, inbox)
        self.tiers.check_integrity()
        return out

    def _perform(self, effect: fx.Effect, inbox: list[ev.Event]) -> None:
        match effect:
            case fx.Grant() | fx.Reject() | fx.Prefetched() | fx.Done():
                assert effect.request not in self.answers, "answered twice"
                self.answers[effect.request] = effect
                if isinstance(effect, fx.Grant):
                    assert effect.expert not in self.tiers.state.former, "bytes that no expert has any more"
                    self.granted[effect.lease] = effect
            case fx.StartCopy():
                assert self.copying.keys() <= self.tiers.hbm.aside, "two copies on one link"
                assert len(self.copying) < 2 * self.tiers.limits.max_aside
                assert effect.expert not in self.freeing
                if effect.part_slot is not None:
                    part = self.tiers.weights.part(effect.expert)
                    assert part is not None
                    assert part.slot == effect.part_slot
                    assert part.state is State.RESIDENT
                self.copying[effect.expert] = effect
                self.generation += 1
                inbox.append(ev.CopyStarted(effect.expert, self.generation))
                if effect.watched and effect.expert not in self.silent:
                    inbox.append(ev.CopyMoves(effect.expert, self.generation))
            case fx.CancelCopy():
                assert effect.expert in self.copying
                self.cancelled.add(effect.expert)
            case fx.Free():
                assert effect.expert not in self.copying, "freed while it is copied"
                assert not self.tiers.leases.count(effect.expert), "freed while leased"
                read = [copy.part_slot for copy in self.copying.values()]
                assert effect.slot not in read, "freed while a load takes its first bytes from it"
                self.freeing[effect.expert] = effect.slot
            case fx.ReadIntoDdr():
                assert effect.expert not in self.in_ddr | self.reading
                self.reading.add(effect.expert)
            case fx.DropFromDdr():
                assert effect.expert in self.in_ddr | self.reading
                assert effect.expert not in self.copying, "its source went away"
                self.in_ddr.discard(effect.expert)
                self.reading.discard(effect.expert)
            case fx.Evicted():
                self.evicted.append(effect.expert)
            case fx.Changed():
                assert effect.expert in self.sizes, "nobody outside knows parts"

    def crash(self) -> dict[str, tuple[ev.Held, ...]]:
        """The manager is killed and another one takes its arena over. Returns what each worker holds then."""
        old = self.tiers
        held = {
            worker: tuple(
                ev.Held(lease.lease, lease.expert, self.granted[lease.lease].slot, self.granted[lease.lease].generation)
                for lease in old.leases.of_worker(worker)
                if lease.lease in self.granted
            )
            for worker in old.attached
        }
        # What was being loaded or freed is free; the rest is as it was.
        found = tuple(
            ev.Resident(name, entry.nbytes, entry.slot, entry.offset, entry.generation or 0)
            for name, entry in old.hbm.entries.items()
            if entry.state is State.RESIDENT and not entry.part_of and name not in old.state.former
        )
        self.answers |= {request: fx.Reject(request, Unavailable("the manager is gone")) for request in old.pending}
        for gone in (self.copying, self.cancelled, self.freeing, self.reading, self.in_ddr):
            gone.clear()
        first_lease = old.leases.next_lease + 1_000_000
        self.tiers = Tiers(old.limits, old.weights.policy, old.defaults, first_lease)
        self.claims_end = self.now + old.limits.claim_s
        whole = {(resident.slot, resident.generation) for resident in found}
        self.claimed = {
            lease for leases in held.values() for lease in leases if (lease.slot, lease.generation) in whole
        }
        self.send(ev.Adopt(found))
        return held

    # What tests do

    def import_anew(self, expert: str, nbytes: int) -> str:
        """Returns the key of its new bytes."""
        self.requests += 1
        name, former = name_of(expert), self.current.get(name_of(expert), name_of(expert))
        key = self.current[name] = f"{name}#{self.requests}"
        self.sizes[key] = nbytes
        self.send(ev.Replaced(former, key, nbytes))
        return key

    def attach(self, *workers: str) -> None:
        for number, worker in enumerate(workers, 1):
            self.send(ev.Attach(worker, number))

    def acquire(self, worker: str, expert: str, **more: object) -> int:
        self.requests += 1
        self.send(ev.Acquire(self.requests, worker, expert, self.sizes[expert], **more))  # type: ignore[arg-type]
        return self.requests

    def prefetch(self, worker: str, expert: str, *, may_evict: bool, forecast: tuple[ev.Use, ...] = ()) -> fx.Effect:
        self.requests += 1
        self.send(ev.Prefetch(self.requests, worker, expert, self.sizes[expert], may_evict, forecast))
        return self.answers[self.requests]

    def stall_copy(self, expert: str) -> None:
        self.send(ev.CopyWaits(expert, self.tiers.hbm.entries[expert].generation or 0))

    def move_copy(self, expert: str) -> None:
        self.send(ev.CopyMoves(expert, self.tiers.hbm.entries[expert].generation or 0))

    def end_copy(self, error: Exception | None = None, expert: str = "") -> None:
        """`expert`: of those that are copied; the first without."""
        expert = expert or next(iter(self.copying))
        del self.copying[expert]
        generation = self.tiers.hbm.entries[expert].generation or 0
        if expert in self.cancelled:
            self.cancelled.remove(expert)
            error = None
        self.send(ev.CopyEnded(expert, generation, error))  # type: ignore[arg-type]

    def end_free(self, expert: str) -> None:
        self.send(ev.Freed(expert, self.freeing.pop(expert)))

    def end_read(self, expert: str, *, ok: bool = True) -> None:
        self.reading.remove(expert)
        if ok:
            self.in_ddr.add(expert)
        else:
            self.reading.add(expert)
        self.send(ev.InDdr(expert, ok=ok))
        if not ok and expert in self.reading:
            # Its copies go on; the core drops it after them.
            assert self.tiers.ddr.entries[expert].failed
            self.reading.discard(expert)
            self.in_ddr.add(expert)

    def settle(self) -> None:
        """Lets everything under way end well."""
        while self.copying or self.freeing or self.reading:
            if self.reading:
                self.end_read(next(iter(self.reading)))
            elif self.freeing:
                self.end_free(next(iter(self.freeing)))
            else:
                self.end_copy()

    def grant(self, request: int) -> fx.Grant:
        answer = self.answers[request]
        assert isinstance(answer, fx.Grant), answer
        return answer

    def release(self, request: int) -> None:
        grant = self.grant(request)
        self.send(ev.Release(grant.worker, grant.lease))

    def resident(self) -> set[str]:
        return {name for name, entry in self.tiers.hbm.entries.items() if entry.state is State.RESIDENT}
