"""The bounds on waiting that `lookahead` guarantees, over random traces with exact costs; and single decisions."""

from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.scheduling import ExpertQueues, Exponential, QueuedPrompt, QueueView, Running, make_policy
from coe.scheduling.lookahead import Lookahead
from coe.scheduling.policy import Decision
from coe.simulation.hardware import HOST, Hardware, with_budget
from coe.simulation.node import Served, serve
from coe.simulation.trace import Trace, make_trace, names

MACHINE = Hardware("m", 3, 100, link=2.0, step_s=0.1, sequence_s=0.02, prefill_s=0.05, overlap=True)
TOKENS, BATCH = 10, 4
ALONE_S = MACHINE.load_s(1) + MACHINE.run_s(1, BATCH, TOKENS)
GENERATION_S = MACHINE.load_s(1) + MACHINE.run_s(BATCH, BATCH, TOKENS)

gaps = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 2.0, 9.0]), st.integers(0, 5)), min_size=1, max_size=60)


def run(trace: Trace, max_wait: float) -> Served:
    return serve(trace, MACHINE, Lookahead(max_wait), expert_bytes=1, max_batch=BATCH)


def trace_of(arrivals: list[float], experts: list[int]) -> Trace:
    called = names(6)
    return Trace(arrivals, [called[e] for e in experts], [0] * len(arrivals), [TOKENS] * len(arrivals))


class Watched(Lookahead):
    """Notes its visits: when each began, and of which expert."""

    def __init__(self, max_wait: float) -> None:
        super().__init__(max_wait)
        self.visits: list[tuple[float, str]] = []

    def decide(self, view: QueueView, now: float) -> Decision:
        decision = super().decide(view, now)
        if decision.run is not None:
            self.visits.append((now, decision.run.expert))
        return decision


@given(gaps, st.sampled_from([0.5, 4.0, 15.0]))
@settings(max_examples=100, deadline=None)
def test_a_prompt_past_max_wait_is_served_before_any_expert_is_visited_a_third_time(
    steps: list[tuple[float, int]], max_wait: float
) -> None:
    """Once in what is left of this round, once in the next one; so nobody waits for ever, however many come."""
    trace = trace_of(list(accumulate(gap for gap, _ in steps)), [expert for _, expert in steps])
    policy = Watched(max_wait)
    served = serve(trace, MACHINE, policy, expert_bytes=1, max_batch=BATCH)
    assert sorted(served.started) == list(range(len(trace))), "each prompt runs once"
    for index, waited in zip(served.started, served.waits, strict=True):
        due, began = trace.arrivals[index] + max_wait, trace.arrivals[index] + waited
        # Its own visit began before its prefill, by a copy at most.
        overtaking = Counter(expert for at, expert in policy.visits if due < at < began - MACHINE.load_s(1) - 1e-6)
        del overtaking[trace.experts[index]]
        assert max(overtaking.values(), default=0) <= 2


class Forgetful(Lookahead):
    """Works out every visit anew."""

    def decide(self, view: QueueView, now: float) -> Decision:
        self._visits.clear()
        return super().decide(view, now)


@given(gaps, st.sampled_from([0.5, 4.0, 15.0]))
@settings(max_examples=50, deadline=None)
def test_caching_visits_does_not_change_decisions(steps: list[tuple[float, int]], max_wait: float) -> None:
    trace = trace_of(list(accumulate(gap for gap, _ in steps)), [expert for _, expert in steps])
    anew = serve(trace, MACHINE, Forgetful(max_wait), expert_bytes=1, max_batch=BATCH)
    assert run(trace, max_wait) == anew


class Priced:
    """Of each expert, what a visit takes."""

    def __init__(self, **seconds: float) -> None:
        self.version = 0
        self.seconds = seconds

    def load_s(self, expert: str) -> float:
        return 0.0

    def run_s(self, expert: str, prompts: int) -> float:
        return self.seconds[expert]


def test_visits_are_recomputed_when_costs_or_queues_are_replaced() -> None:
    policy, costs = Lookahead(20.0), Priced(a=1.0, b=2.0)
    seen = view([("a", 0.0), ("b", 0.0)], set())._replace(costs=costs)
    assert chosen(policy, seen, 0.1) == "a"
    costs.seconds["a"], costs.version = 3.0, 1
    assert chosen(policy, seen, 0.2) == "b"
    # After a drain as many changes may have been counted.
    others = ExpertQueues()
    for number, (expert, at) in enumerate([("a", 0.0), ("b", 0.19)]):
        others.push(QueuedPrompt(str(number), expert, at))
    costs.seconds["a"] = 2.1
    assert chosen(policy, seen._replace(queues=others), 2.0) == "a"


def test_a_visit_excludes_prompts_that_arrived_after_it_began() -> None:
    """Beyond the bound, so that an expert that is always wanted does not keep the others waiting."""
    policy = Lookahead(1.0)
    assert chosen(policy, view([("a", 0.0), ("b", 0.1)], {"a"}), 50.0) == "a"
    joined = policy.decide(view([("b", 0.1), ("a", 51.0)], {"a"}, Running("a", 1, 1.0)), 52.0)
    assert joined.join is not None
    assert joined.join.arrived_by == 50.0


def test_in_overload_a_round_takes_what_is_in_hbm_first_and_each_expert_once() -> None:
    """Beyond the bound the order is the cheapest, not that of arrival: the round bounds it."""
    policy = Lookahead(1.0)
    assert chosen(policy, view([("a", 0.0), ("b", 5.0)], {"b"}), 50.0) == "b"
    assert chosen(policy, view([("a", 0.0), ("b", 55.0)], {"b"}), 60.0) == "a"
    began_anew = view([("b", 55.0), ("a", 61.0)], {"a"})
    assert chosen(policy, began_anew, 70.0) == "a"


def test_a_visit_late_in_a_round_takes_all_prompts_that_arrived_before_it() -> None:
    policy = Lookahead(1.0)
    assert chosen(policy, view([("a", 0.0), ("b", 5.0)], {"b"}), 50.0) == "b"
    visit = policy.decide(view([("a", 0.0), ("a", 55.0)], {"b"}), 60.0).run
    assert visit is not None
    assert (visit.expert, visit.arrived_by) == ("a", 60.0)
    joined = policy.decide(view([("b", 5.0), ("a", 58.0)], {"a"}, Running("a", 1, 1.0)), 61.0).join
    assert joined is not None
    assert (joined.expert, joined.arrived_by) == ("a", 60.0)


def test_within_the_bound_prompts_that_arrived_after_a_round_began_may_run_first() -> None:
    policy = Lookahead(20.0)
    assert chosen(policy, view([("cold", 0.0), ("warm", 0.1)], {"warm"}), 0.2) == "warm"
    assert chosen(policy, view([("cold", 0.0), ("warm", 0.4), ("warm", 0.4)], {"warm"}), 0.5) == "warm"


@pytest.mark.parametrize("kind", ["zipf", "bursty"])
@pytest.mark.parametrize("rate", [8.0, 20.0])
def test_throughput_matches_unbounded_groups(kind: str, rate: float) -> None:
    """Groups grow under load, so the bound costs no throughput: CoServe's groups know none."""
    machine = with_budget(HOST, 8, 97_000_000)
    trace = make_trace(kind, 4000, 48, rate=rate)
    ours, theirs = (
        serve(trace, machine, make_policy(name), expert_bytes=97_000_000, max_batch=16)
        for name in ("lookahead", "coserve")
    )
    assert ours.prompts_s >= theirs.prompts_s
    assert sum(ours.waits) <= sum(theirs.waits)


@given(gaps, st.sampled_from([4.0, 15.0]))
@settings(max_examples=150, deadline=None)
def test_the_bound_holds_whenever_order_of_arrival_would_hold_it(
    steps: list[tuple[float, int]], max_wait: float
) -> None:
    """Arrivals are held back until one-by-one service, each with a load of its own, would begin within max_wait."""
    arrivals: list[float] = []
    now = free_at = 0.0
    for gap, _ in steps:
        now = max(now + gap, free_at - max_wait)
        arrivals.append(now)
        free_at = max(free_at, now) + ALONE_S
    served = run(trace_of(arrivals, [expert for _, expert in steps]), max_wait)
    assert max(served.waits) <= max_wait + GENERATION_S + 1e-6


@pytest.mark.parametrize("kind", ["zipf", "bursty"])
@pytest.mark.parametrize("rate", [3.0, 5.0, 7.0])
def test_mean_wait_is_shorter_than_coserve_s_at_a_similar_p99(kind: str, rate: float) -> None:
    machine = with_budget(HOST, 8, 97_000_000)
    trace = make_trace(kind, 4000, 48, rate=rate, seed=5)
    ours, theirs = (
        np.array(serve(trace, machine, make_policy(name), expert_bytes=97_000_000, max_batch=16).waits)
        for name in ("lookahead", "coserve")
    )
    assert ours.mean() < 0.95 * theirs.mean()
    assert np.percentile(ours, 99) < 1.1 * np.percentile(theirs, 99)


class FlatCosts:
    version = 0

    def load_s(self, expert: str) -> float:
        return 1.0

    def run_s(self, expert: str, prompts: int) -> float:
        return 1.0 + 0.1 * prompts


def view(
    prompts: list[tuple[str, float]], resident: set[str], running: Running | None = None, max_batch: int = 4
) -> QueueView:
    queues = ExpertQueues()
    for number, (expert, at) in enumerate(prompts):
        queues.push(QueuedPrompt(str(number), expert, at))
    return QueueView(queues, FlatCosts(), Exponential(), resident, max_batch, running)


def chosen(policy: Lookahead, seen: QueueView, now: float) -> str:
    decision = policy.decide(seen, now)
    assert decision.run is not None
    return decision.run.expert


def test_resident_before_absent() -> None:
    assert chosen(Lookahead(20.0), view([("cold", 0.0), ("warm", 0.1)], {"warm"}), 0.2) == "warm"


def test_many_before_few() -> None:
    assert chosen(Lookahead(20.0), view([("few", 0.0), ("many", 0.1), ("many", 0.1)], set()), 0.2) == "many"


def test_due_before_cheap() -> None:
    assert chosen(Lookahead(20.0), view([("old", 0.0), ("warm", 19.0)], {"warm"}), 19.5) == "old"


def test_prefetches_what_comes_next_and_forecasts_it() -> None:
    prompts = [("a", 0.0), ("a", 0.0), ("b", 0.0), ("c", 0.0)]
    decision = Lookahead(20.0, prefetch_depth=1).decide(view(prompts, {"a", "z"}, Running("a", 1, 2.0)), 1.0)
    assert decision.prefetch == ("b",)
    use = {use.expert: use.in_s for use in decision.forecast}
    assert use["a"] == 0.0
    assert use["b"] == 2.0
    assert use["b"] < use["c"] < use["z"] == float("inf")


def test_a_visit_that_begins_forecasts_itself_and_prefetches_the_next() -> None:
    prompts = [("a", 0.0), ("a", 0.0), ("b", 0.0), ("c", 0.0)]
    decision = Lookahead(20.0, prefetch_depth=1).decide(view(prompts, {"z"}), 1.0)
    assert decision.run is not None
    assert (decision.run.expert, decision.prefetch) == ("a", ("b",))
    a, b, c, z = decision.forecast
    assert (a.expert, a.in_s) == ("a", 0.0)
    assert (b.expert, b.in_s) == ("b", pytest.approx(2.2))
    assert (c.expert, c.in_s) == ("c", pytest.approx(4.3))
    assert (z.expert, z.in_s) == ("z", float("inf"))


def test_joining_stops_before_another_visit_would_be_late() -> None:
    prompts = [("b", 0.0), ("a", 1.0), ("a", 1.0)]
    policy = Lookahead(20.0)
    early = policy.decide(view(prompts, {"a", "b"}, Running("a", 1, 0.5)), 2.0)
    assert early.join is not None
    assert early.join.count == 2
    late = policy.decide(view(prompts, {"a", "b"}, Running("a", 1, 0.5)), 19.4)
    assert late.join is None


@pytest.mark.parametrize(("queued", "joins"), [(4, True), (40, False)])
def test_a_visit_of_many_batches_is_due_so_that_the_last_one_begins_in_time(queued: int, joins: bool) -> None:
    """Forty take 5 s, of which the last batch's 1.4 are its own: the visit must begin by 16.9, not by 20.5."""
    prompts = [*(("b", 0.5) for _ in range(queued)), ("a", 1.0)]
    decision = Lookahead(20.0).decide(view(prompts, {"a", "b"}, Running("a", 1, 0.5)), 17.0)
    assert (decision.join is not None) == joins


def test_overload_makes_whole_visits_resident_first() -> None:
    prompts = [("a", 0.0), ("b", 0.1), *(("a", 0.2) for _ in range(30)), *(("b", 0.3) for _ in range(30))]
    policy = Lookahead(1.0)
    assert chosen(policy, view(prompts, {"b"}), 50.0) == "b"
    joined = policy.decide(view(prompts, {"b"}, Running("b", 1, 1.0)), 50.0)
    assert joined.join is not None


@pytest.mark.parametrize(("remaining_s", "joins"), [(2.0, False), (4.0, True)])
def test_a_visit_is_whole_once_the_next_would_begin_late_by_a_quarter_of_max_wait(
    remaining_s: float, joins: bool
) -> None:
    """`b` is due at 20, and the batch runs until 24 or 26: beyond 25 keeping to due times only adds switches."""
    prompts = [("b", 0.0), ("a", 1.0)]
    decision = Lookahead(20.0).decide(view(prompts, {"a", "b"}, Running("a", 1, remaining_s)), 22.0)
    assert (decision.join is not None) == joins


def test_a_forecast_is_sent_once_until_something_changes() -> None:
    policy, seen = Lookahead(20.0), view([("a", 0.0), ("b", 0.0)], {"a"}, Running("a", 1, 1.0))
    assert policy.decide(seen, 1.0).forecast
    assert not policy.decide(seen, 1.5).forecast
    seen.queues.push(QueuedPrompt("new", "c", 2.0))
    assert policy.decide(seen, 2.0).forecast


def test_names_make_policies() -> None:
    assert make_policy("samba-coe").eviction == "lru"
    assert make_policy("lookahead", max_wait=3.0).decide(view([], set()), 0.0).run is None
