"""The mapper's rule over simulated workers: the hot spread, the cold stay, a newcomer gets its share, no stampede."""

from collections import Counter

import pytest

from coe.simulation.hardware import HOST, with_budget
from coe.simulation.placement import Placed, Rule, partition_of, simulate_placement
from coe.simulation.trace import Trace, make_trace

MACHINE = with_budget(HOST, 8, 97_000_000)
PARTITIONS = 64
FOUR = [partition % 4 for partition in range(PARTITIONS)]


def simulate(trace: Trace, rule: Rule, owners: list[int] = FOUR) -> Placed:
    return simulate_placement(trace, MACHINE, owners, rule, expert_bytes=97_000_000)


@pytest.fixture(scope="module")
def hot() -> Trace:
    """More than half of the prompts want one expert, and more than one worker can answer."""
    return make_trace("zipf", 3000, 24, rate=25.0, exponent=1.8, seed=1)


def test_a_hot_expert_spreads_and_cold_ones_stay(hot: Trace) -> None:
    alone, spread = simulate(hot, Rule(max_replicas=1)), simulate(hot, Rule())
    assert sorted(len(one.latencies) for one in spread.served) != sorted(len(one.latencies) for one in alone.served)
    assert len(spread.prompts["expert-00"]) > len(alone.prompts["expert-00"]) == 1
    assert sum(spread.waits) < 0.5 * sum(alone.waits)
    asked = Counter(hot.experts)
    cold = [expert for expert, count in asked.items() if count < 60]
    assert cold
    assert all(spread.replicas[expert] == 1 == len(spread.prompts[expert]) for expert in cold)


def test_replicas_follow_the_load(hot: Trace) -> None:
    idle = simulate(hot.paced(0.02), Rule())
    assert set(idle.replicas.values()) == {1}
    assert simulate(hot, Rule()).replicas["expert-00"] == 4


def test_every_prompt_is_answered_once(hot: Trace) -> None:
    assert sum(len(one.latencies) for one in simulate(hot, Rule()).served) == len(hot)


def test_old_depths_send_nobody_all_to_one_worker() -> None:
    """A burst for one expert, seen late: each new replica takes its part of what follows, not all of it."""
    trace = Trace([0.001 * index for index in range(1200)], ["expert"] * 1200, [0] * 1200, [24] * 1200)
    by_worker = simulate(trace, Rule(view_age_s=0.3)).prompts["expert"]
    owners = Counter(FOUR[partition_of("expert", replica, PARTITIONS)] for replica in range(4))
    for worker, count in by_worker.items():
        # 300 came before anyone knew of the burst.
        assert count <= 300 + owners[worker] * 900 / 4 * 1.2


def test_a_new_worker_takes_its_share_and_leaves_the_rest_where_it_was() -> None:
    """As partitions move, so do their experts, and no others."""
    trace = make_trace("zipf", 1500, 200, rate=4.0, exponent=0.5, seed=2)
    five = [4 if partition % 5 == 0 else owner for partition, owner in enumerate(FOUR)]
    before, after = simulate(trace, Rule()).prompts, simulate(trace, Rule(), five).prompts
    moved = [expert for expert in before if before[expert].keys() != after[expert].keys()]
    assert all(after[expert].keys() == {4} for expert in moved)
    assert 0.1 < len(moved) / len(before) < 0.35
