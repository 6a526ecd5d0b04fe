"""Every policy serves every prompt once, whatever the trace; each decides in its own way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.scheduling import (
    POLICIES,
    ExpertQueues,
    Exponential,
    LearnedCosts,
    Line,
    QueuedPrompt,
    QueueView,
    Running,
    make_policy,
)
from coe.simulation.hardware import Hardware
from coe.simulation.node import serve
from coe.simulation.trace import KINDS, make_trace

MACHINE = Hardware("m", 3, 100, link=2.0, step_s=0.1, sequence_s=0.02, prefill_s=0.05, overlap=True)


@pytest.mark.parametrize("policy", POLICIES)
@given(st.sampled_from(KINDS), st.integers(1, 80), st.integers(1, 9), st.sampled_from([0.3, 3.0]), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_every_prompt_is_served_once(
    policy: str, kind: str, prompts: int, experts: int, rate: float, seed: int
) -> None:
    trace = make_trace(kind, prompts, experts, rate=rate, seed=seed)
    served = serve(trace, MACHINE, make_policy(policy), expert_bytes=1, max_batch=4)
    assert sorted(served.started) == list(range(prompts))
    assert len(served.latencies) == prompts
    assert min(served.waits) >= 0.0
    assert served.loads >= len(set(trace.experts))


def decide(policy: str, prompts: list[str], last: str | None = None) -> tuple[str, int]:
    queues = ExpertQueues()
    for number, expert in enumerate(prompts):
        queues.push(QueuedPrompt(str(number), expert, float(number)))
    costs = LearnedCosts(lambda _: 1, 4)
    decision = make_policy(policy).decide(QueueView(queues, costs, Exponential(), set(), 4, last=last), 9.0)
    assert decision.run is not None
    return decision.run.expert, decision.run.count


def test_characteristics_of_each_policy() -> None:
    line = ["a", "a", "b", "a", "b"]
    assert decide("samba-coe", line) == ("a", 1)
    assert decide("lru", line) == ("a", 2)
    assert decide("coserve", line) == ("a", 4)
    assert decide("coserve", line, last="b") == ("b", 4)


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_starts_while_a_batch_runs_or_when_nobody_waits(policy: str) -> None:
    queues, costs = ExpertQueues(), LearnedCosts(lambda _: 1, 4)
    view = QueueView(queues, costs, Exponential(), set(), 4)
    assert make_policy(policy).decide(view, 0.0).run is None
    queues.push(QueuedPrompt("1", "a", 0.0))
    assert make_policy(policy).decide(view._replace(running=Running("b", 1, 1.0)), 0.0).run is None


def test_unknown_policy() -> None:
    with pytest.raises(ValueError, match="lookahead"):
        make_policy("magic")


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-4, 10.0)), min_size=1, max_size=60))
def test_a_line_is_never_negative(measured: list[tuple[int, float]]) -> None:
    line = Line(0.1, 0.1)
    for n, seconds in measured:
        line.observe(n, seconds)
        assert line.each >= 0.0
        assert line.base >= -1e-9
        assert line.at(n) > 0.0


def test_a_line_forgets() -> None:
    line = Line(0.02, 0.0)
    for base, each in ((0.005, 0.001), (0.01, 0.0005)):
        for _ in range(200):
            for n in (1, 8, 64):
                line.observe(n, base + each * n)
        assert (line.base, line.each) == pytest.approx((base, each), rel=0.05)


def test_costs_are_learned() -> None:
    costs = LearnedCosts(lambda _: 1000, 8)
    for _ in range(60):
        for prompts in (1, 4, 8):
            costs.observe_batch(prompts, 0.5 + 0.05 * prompts)
        costs.observe_load(1000, 0.25)
    assert costs.run_s("x", 4) == pytest.approx(0.7, rel=0.01)
    assert costs.run_s("x", 12) == pytest.approx(1.6, rel=0.01)
    assert costs.load_s("x") == pytest.approx(0.25, rel=0.01)


def test_loads_without_bytes_or_time_are_not_learned_from() -> None:
    costs = LearnedCosts(lambda _: 1000, 8)
    expected = costs.load_s("x")
    costs.observe_load(0, 1.0)
    costs.observe_load(1000, 0.0)
    assert (costs.load_s("x"), costs.version) == (expected, 0)


def test_costs_get_a_new_version_whenever_they_change() -> None:
    costs = LearnedCosts(lambda _: 1000, 8)
    versions = [costs.version]
    for _ in range(2):
        costs.observe_load(1000, 0.25)
        versions.append(costs.version)
        costs.observe_batch(4, 1.0)
        versions.append(costs.version)
    assert len(set(versions)) == len(versions)


def test_popularity_halves_with_its_half_life() -> None:
    popularity = Exponential(half_life=2.0)
    for expert in "abc":
        popularity.observe(expert)
    # Weights are 1, the root of 2, and 2.
    shares = [popularity.probability(expert) for expert in "abcd"]
    assert shares == pytest.approx([1 / 4.4142, 1.4142 / 4.4142, 2 / 4.4142, 0.0], rel=1e-3)


def test_popularity_follows_the_stream() -> None:
    popularity = Exponential(half_life=10.0)
    for expert in ["a"] * 50 + ["b"] * 30:
        popularity.observe(expert)
    assert popularity.probability("b") > 0.8
    assert popularity.probability("a") + popularity.probability("b") == pytest.approx(1.0)
    for _ in range(4000):
        popularity.observe("c")
    assert popularity.probability("c") == pytest.approx(1.0)
