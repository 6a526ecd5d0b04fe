"""Random interleavings of everything that can happen to the tiers; the world checks its rules after every step."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.tiers import State
from coe.platform.errors import TierLoadError
from support.examples import examples, search_timeout
from support.tiers_world import World

pytestmark = search_timeout

SIZES = {"a": 3, "b": 3, "c": 4, "d": 5, "e": 7}
experts = st.sampled_from(sorted(SIZES))
workers = st.sampled_from(["w1", "w2"])
forecasts = st.lists(
    st.builds(ev.Use, experts, st.sampled_from([0.0, 1.0, 5.0, float("inf")]), st.floats(0, 1)), max_size=4
).map(tuple)


class TierMachine(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(sorted(EVICTION)),
        ddr=st.sampled_from([0, 6, 100]),
        slots=st.integers(2, 5),
        part_share=st.sampled_from([0.0, 0.4]),
    )
    def start(self, policy: str, ddr: int, slots: int, part_share: float) -> None:
        more = {
            "max_aside": 1,
            "recall_s": 2.0,
            "slots": slots,
            "idle_ttl_s": 40.0,
            "part_share": part_share,
            "part_unit": 1,
        }
        self.world = World.of(SIZES, hbm=12, ddr=ddr, policy=policy, **more)
        self.attachments = {"w1": 0, "w2": 0}
        # Leases of workers that have not come back since the manager's crash.
        self.away: dict[str, tuple[ev.Held, ...]] = {}
        self.asked: list[int] = []
        self.gone: set[str] = set()

    @rule(worker=workers)
    def attach(self, worker: str) -> None:
        self.attachments[worker] += 1
        self.world.send(ev.Attach(worker, self.attachments[worker], self.away.pop(worker, ())))

    @rule()
    def manager_crashes(self) -> None:
        # Of a worker that was away already, the new manager may learn what the former one never knew.
        self.away = {**self.away, **self.world.crash()}
        assert not len(self.world.tiers.leases)

    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        self.away.pop(worker, None)
        self.world.send(ev.Detach(worker, self.attachments[worker]))
        assert not self.world.tiers.leases.of_worker(worker)

    @rule(worker=workers, expert=experts, resident=st.booleans(), patience=st.integers(1, 30), forecast=forecasts)
    def acquire(self, worker: str, expert: str, resident: bool, patience: int, forecast: tuple[ev.Use, ...]) -> None:
        deadline = self.world.now + patience
        if expert in self.gone:
            return
        expert = self.key(expert)
        self.asked.append(self.world.acquire(worker, expert, resident=resident, deadline=deadline, forecast=forecast))

    @rule(worker=workers, expert=experts, may_evict=st.booleans(), forecast=forecasts)
    def prefetch(self, worker: str, expert: str, may_evict: bool, forecast: tuple[ev.Use, ...]) -> None:
        if expert in self.gone:
            return
        kept = {e for e in self.world.sizes if self.world.tiers.leases.count(e)}
        self.world.prefetch(worker, self.key(expert), may_evict=may_evict, forecast=forecast)
        assert kept <= self.world.tiers.hbm.entries.keys()

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.world.granted:
            grant = data.draw(st.sampled_from(sorted(self.world.granted.values(), key=lambda g: g.lease)))
            self.world.send(ev.Release(grant.worker, grant.lease))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.world.tiers.pending:
            self.world.send(ev.CancelAcquire(data.draw(st.sampled_from(sorted(self.world.tiers.pending)))))

    @rule(expert=experts, pinned=st.booleans())
    def pin(self, expert: str, pinned: bool) -> None:
        if expert in self.gone and pinned:
            return
        self.world.requests += 1
        key = self.key(expert)
        self.world.send(ev.Pin(self.world.requests, key, self.world.sizes[key], pinned))

    @rule(expert=experts, nbytes=st.integers(1, 7))
    def imported_anew(self, expert: str, nbytes: int) -> None:
        former, pinned = self.key(expert), self.pinned(self.key(expert))
        leases = self.world.tiers.leases
        read = {lease.lease for lease in leases.of_expert(former)} & self.world.granted.keys()
        self.gone.discard(expert)
        key = self.world.import_anew(expert, nbytes)
        assert {lease.lease for lease in leases.of_expert(former)} == read, "who reads the former bytes goes on"
        assert not self.pinned(former)
        assert self.pinned(key) == pinned

    @rule(expert=experts)
    def removed(self, expert: str) -> None:
        self.gone.add(expert)
        self.world.send(ev.Replaced(self.key(expert), "", 0))

    @rule(expert=experts)
    def comes_back(self, expert: str) -> None:
        if expert in self.gone:
            self.gone.remove(expert)
            key = self.key(expert)
            self.world.send(ev.Replaced(key, key, self.world.sizes[key]))

    def pinned(self, key: str) -> bool:
        return key in self.world.tiers.pins or key in self.world.tiers.state.unmet

    def key(self, expert: str) -> str:
        return self.world.current.get(expert, expert)

    @precondition(lambda self: self.world.copying)
    @rule(data=st.data(), fails=st.booleans())
    def copy_ends(self, data: st.DataObject, fails: bool) -> None:
        expert = data.draw(st.sampled_from(sorted(self.world.copying)))
        self.world.end_copy(TierLoadError("the disk is on fire") if fails else None, expert)

    @precondition(lambda self: self.world.copying)
    @rule(data=st.data())
    def copy_waits_for_its_disk(self, data: st.DataObject) -> None:
        self.world.stall_copy(data.draw(st.sampled_from(sorted(self.world.copying))))
        assert self.world.tiers.hbm.copying not in self.world.tiers.hbm.aside

    @rule(experts=st.sets(experts))
    def disks_do_not_answer(self, experts: set[str]) -> None:
        self.world.silent = {self.key(expert) for expert in experts}

    @precondition(lambda self: self.world.copying)
    @rule(data=st.data())
    def copy_moves(self, data: st.DataObject) -> None:
        self.world.move_copy(data.draw(st.sampled_from(sorted(self.world.copying))))

    @precondition(lambda self: self.world.freeing)
    @rule(data=st.data())
    def freed(self, data: st.DataObject) -> None:
        self.world.end_free(data.draw(st.sampled_from(sorted(self.world.freeing))))

    @precondition(lambda self: self.world.reading)
    @rule(data=st.data(), ok=st.booleans())
    def read(self, data: st.DataObject, ok: bool) -> None:
        self.world.end_read(data.draw(st.sampled_from(sorted(self.world.reading))), ok=ok)

    @rule(seconds=st.sampled_from([0.1, 3.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.send(ev.Tick())

    @invariant()
    def leased_slots_keep_their_generation(self) -> None:
        if not hasattr(self, "world"):
            return
        tiers = self.world.tiers
        for lease, grant in self.world.granted.items():
            if any(held.lease == lease for held in tiers.leases.of_worker(grant.worker)):
                entry = tiers.hbm.entries[grant.expert]
                assert (entry.slot, entry.generation) == (grant.slot, grant.generation)
                assert entry.state is not State.FREEING

    @invariant()
    def nobody_reads_behind_a_disk_that_has_not_answered(self) -> None:
        if not hasattr(self, "world"):
            return
        for entry in self.world.tiers.hbm.entries.values():
            waiting = {self.world.tiers.pending[request].lease for request in entry.waiters}
            leases = {lease.lease for lease in self.world.tiers.leases.of_expert(entry.expert)}
            assert entry.state is not State.LOADING or entry.moves or leases <= waiting

    @invariant()
    def pins_fit_and_who_waits_to_be_pinned_would_not(self) -> None:
        if not hasattr(self, "world"):
            return
        pins, unmet = self.world.tiers.pins, self.world.tiers.state.unmet
        free = self.world.tiers.hbm.budget.capacity - sum(pins.values())
        assert free >= 0
        assert not pins.keys() & unmet.keys()
        assert all(nbytes > free for nbytes in unmet.values())

    @invariant()
    def what_a_worker_may_come_back_for_stays(self) -> None:
        if not hasattr(self, "world") or self.world.now >= self.world.claims_end:
            return
        for lease in (lease for held in self.away.values() for lease in held):
            entry = self.world.tiers.hbm.entries.get(lease.expert)
            if lease in self.world.claimed:
                assert entry is not None
                assert (entry.slot, entry.generation) == (lease.slot, lease.generation)

    @invariant()
    def experts_are_recalled_for_somebody(self) -> None:
        if hasattr(self, "world") and not self.world.tiers.pending:
            assert not any(entry.recalled for entry in self.world.tiers.hbm.entries.values())

    @invariant()
    def bytes_that_no_expert_has_are_only_kept_for_who_reads_them(self) -> None:
        if not hasattr(self, "world"):
            return
        tiers = self.world.tiers
        for former in tiers.state.former & tiers.hbm.entries.keys():
            entry = tiers.hbm.entries[former]
            claimed = former in tiers.state.unclaimed
            assert entry.state is State.FREEING or tiers.leases.count(former) or claimed

    @invariant()
    def one_answer_each(self) -> None:
        if hasattr(self, "world"):
            for request in self.asked:
                assert (request in self.world.answers) != (request in self.world.tiers.pending)

    def teardown(self) -> None:
        """When everything under way ends well and every lease is given back, everyone is answered."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for expert in (*world.tiers.state.unmet, *world.tiers.pins):
            world.requests += 1
            world.send(ev.Pin(world.requests, expert, world.sizes[expert], pinned=False))
        world.now = max(world.now, world.claims_end)
        world.send(ev.Tick())
        for _ in range(len(self.asked) + 1):
            world.settle()
            for grant in list(world.granted.values()):
                world.send(ev.Release(grant.worker, grant.lease))
        assert not world.tiers.pending
        assert not world.tiers.state.former, "bytes that no expert has stay for ever"
        assert not len(world.tiers.leases)
        assert all(isinstance(world.answers[request], fx.Grant | fx.Reject) for request in self.asked)


TestTiers = TierMachine.TestCase
TestTiers.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
