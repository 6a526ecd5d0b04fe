"""What `lookahead` promises about waiting, over random traces with exact costs; and single decisions."""

from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from coe.scheduling import ExpertQueues, Exponential, QueuedPrompt, QueueView, Running, make_policy
from coe.scheduling.lookahead import Lookahead
from coe.simulation.hardware import Hardware
from coe.simulation.node import Served, serve
from coe.simulation.trace import Trace, names

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


@given(gaps, st.sampled_from([0.5, 4.0, 15.0]))
@settings(max_examples=100, deadline=None)
def test_nobody_is_overtaken_by_a_prompt_that_came_max_wait_later(
    steps: list[tuple[float, int]], max_wait: float
) -> None:
    trace = trace_of(list(accumulate(gap for gap, _ in steps)), [expert for _, expert in steps])
    served = run(trace, max_wait)
    assert sorted(served.started) == list(range(len(trace))), "each prompt runs once"
    oldest_left = float("inf")
    for index in reversed(served.started):
        oldest_left = min(oldest_left, trace.arrivals[index])
        assert trace.arrivals[index] <= oldest_left + max_wait + 1e-9


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


class FlatCosts:
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


def test_joining_ends_where_another_would_be_late() -> None:
    prompts = [("b", 0.0), ("a", 1.0), ("a", 1.0)]
    policy = Lookahead(20.0)
    early = policy.decide(view(prompts, {"a", "b"}, Running("a", 1, 0.5)), 2.0)
    assert early.join is not None
    assert early.join.count == 2
    late = policy.decide(view(prompts, {"a", "b"}, Running("a", 1, 0.5)), 19.4)
    assert late.join is None


def test_overload_makes_whole_visits_resident_first() -> None:
    prompts = [("a", 0.0), ("b", 0.1), *(("a", 0.2) for _ in range(30)), *(("b", 0.3) for _ in range(30))]
    policy = Lookahead(1.0)
    assert chosen(policy, view(prompts, {"b"}), 50.0) == "b"
    joined = policy.decide(view(prompts, {"b"}, Running("b", 1, 1.0)), 50.0)
    assert joined.join is not None


def test_names_make_policies() -> None:
    assert make_policy("samba-coe").eviction == "lru"
    assert make_policy("lookahead", max_wait=3.0).decide(view([], set()), 0.0).run is None
