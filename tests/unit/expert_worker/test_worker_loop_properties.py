"""The loop under random interleavings: every prompt ends once, nobody starves, leases and sequences balance."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coe.expert_worker.effects import Acquire, Residency
from coe.platform.errors import ChecksumMismatch, CoEError, InternalError, LeaseLost, Unavailable
from support.examples import examples, search_timeout
from unit.expert_worker.worker_world import World, make_prompt

pytestmark = search_timeout

EXPERTS = st.sampled_from("abc")


class WorkerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(max_batch=2, max_wait_s=3.0)
        self.sent: set[str] = set()
        self.handed_back: set[str] = set()

    @initialize(room=st.integers(1, 2), opens_no_runner=st.booleans())
    def start(self, room: int, opens_no_runner: bool) -> None:
        """With room for one sequence the other of a batch has to wait in front of the engine."""
        self.world.room = room
        self.world.opens_no_runner = opens_no_runner

    @rule(expert=EXPERTS, tokens=st.integers(1, 4), patience=st.one_of(st.none(), st.integers(0, 6)))
    def submit(self, expert: str, tokens: int, patience: int | None) -> None:
        key = str(len(self.sent))
        self.sent.add(key)
        deadline = float("inf") if patience is None else self.world.now + patience
        self.world.submit(make_prompt(key, expert, at=self.world.now, deadline=deadline, tokens=tokens))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.integers(0, len(self.sent)))
        self.world.apply(self.world.loop.on_cancel(str(key), self.world.now))
        self.world.advance()

    @precondition(lambda self: self.world.loop.held())
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        keys = data.draw(st.sets(st.sampled_from([prompt.key for prompt in self.world.loop.held()])))
        self.world.loop.on_revoked(keys)
        self.handed_back |= keys
        self.world.advance()

    @precondition(lambda self: self.world.asked)
    @rule(found_in=st.sampled_from(["hbm", "ddr", "disk"]))
    def grant(self, found_in: str) -> None:
        self.world.grant(found_in)

    @precondition(lambda self: self.world.asked)
    @rule(error=st.sampled_from([ChecksumMismatch("bad"), Unavailable("away")]))
    def refuse(self, error: CoEError) -> None:
        self.world.refuse(error)

    @precondition(lambda self: self.world.step)
    @rule(error=st.sampled_from([None, None, None, LeaseLost("stale"), InternalError("boom")]), goes_on=st.booleans())
    def finish_step(self, error: CoEError | None, goes_on: bool) -> None:
        self.world.finish_step(error, goes_on=goes_on)

    @precondition(lambda self: self.world.step and self.world.loop.batch and self.world.loop.batch.live)
    @rule(data=st.data())
    def a_sequence_breaks(self, data: st.DataObject) -> None:
        self.world.finish_step(broken=data.draw(st.sampled_from(sorted(self.world.loop.batch.live))))

    @rule(seconds=st.floats(0.1, 4.0))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.apply(self.world.loop.on_tick(self.world.now))
        self.world.advance()

    @rule(expert=EXPERTS, residency=st.sampled_from(Residency))
    def residency_changes(self, expert: str, residency: Residency) -> None:
        self.world.apply(self.world.loop.on_residency(expert, 10, residency, self.world.now))
        self.world.advance()

    @rule()
    def manager_restarts(self) -> None:
        self.world.epoch += 1
        self.world.leases.clear()
        step = self.world.step
        if step is not None:
            # It runs on bytes that stay mapped until it ends.
            self.world.leases[step.grant.lease_id] = step.expert_id
        self.world.loop.on_attached(self.world.epoch)
        self.world.advance()

    @rule()
    def drain(self) -> None:
        waiting = {prompt.key for prompt in self.world.loop.waiting}
        self.world.loop.drain()
        self.handed_back |= waiting

    @invariant()
    def every_prompt_ends_at_most_once(self) -> None:
        assert all(count == 1 for count in self.world.outcomes.values())
        held = {prompt.key for prompt in self.world.loop.held()}
        assert held | set(self.world.finished) | self.handed_back == self.sent
        assert held.isdisjoint(self.world.finished)

    @invariant()
    def deadlines_are_honoured(self) -> None:
        for at, prompt in self.world.joined:
            assert at < prompt.deadline
        batch, computed = self.world.loop.batch, set[str]()
        if batch is not None and self.world.step is not None:
            computed = set(batch.live)
        assert all(p.deadline > self.world.now for p in self.world.loop.held() if p.key not in computed)

    def teardown(self) -> None:
        self.world.run_out()
        assert self.world.loop.idle
        assert set(self.world.finished) | self.handed_back == self.sent
        assert all(not live for live in self.world.engine.values()), "the engine holds nothing"
        assert all(numbers == list(range(len(numbers))) for numbers in self.world.chunks.values())


WorkerMachine.TestCase.settings = settings(max_examples=examples(120), stateful_step_count=40, deadline=None)
TestWorkerMachine = WorkerMachine.TestCase


ARRIVALS = st.lists(st.tuples(st.floats(0, 3), EXPERTS, st.integers(1, 5)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, max_batch=st.integers(1, 3), max_wait=st.floats(0, 8))
def test_a_prompt_past_max_wait_is_served_before_any_expert_is_visited_a_third_time(
    arrivals: list[tuple[float, str, int]], max_batch: int, max_wait: float
) -> None:
    world = World(max_batch=max_batch, max_wait_s=max_wait)
    coming = []
    at = 0.0
    for number, (gap, expert, tokens) in enumerate(arrivals):
        at += gap
        coming.append(make_prompt(str(number), expert, at=at, tokens=tokens))
    visits: list[tuple[float, str]] = []
    logged = 0
    while coming or world.step or world.asked:
        if world.asked:
            world.grant()
        elif world.step and (not coming or world.now + 1.0 <= coming[0].taken_at):
            world.now += 1.0
            world.finish_step()
        else:
            prompt = coming.pop(0)
            world.now = max(world.now, prompt.taken_at)
            world.submit(prompt)
        visits += [(world.now, effect.expert_id) for effect in world.log[logged:] if isinstance(effect, Acquire)]
        logged = len(world.log)
    assert len(world.joined) == len(arrivals)
    for joined_at, prompt in world.joined:
        due = prompt.taken_at + max_wait
        between = Counter(expert for at, expert in visits if due < at < joined_at and expert != prompt.expert_id)
        assert max(between.values(), default=0) <= 2
