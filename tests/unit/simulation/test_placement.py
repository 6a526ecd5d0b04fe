"""The mapper's choice over simulated workers: the hot spread, the cold stay, a newcomer gets its share, no stampede."""

from collections import Counter

import numpy as np
import pytest

from coe.mapper.replicas import Rule, partition_of
from coe.simulation.hardware import HOST, with_budget
from coe.simulation.placement import Mappers, Placed, simulate_placement
from coe.simulation.trace import Trace, make_trace

MACHINE = with_budget(HOST, 8, 97_000_000)
PARTITIONS = 64
FOUR = [partition % 4 for partition in range(PARTITIONS)]
# The hash alone: nothing makes a prompt leave its place.
HASHED = Mappers(rule=Rule(max_replicas=1, load_worth=10**9, slack=10**9))


def simulate(trace: Trace, mappers: Mappers, owners: list[int] = FOUR) -> Placed:
    return simulate_placement(trace, MACHINE, owners, mappers, expert_bytes=97_000_000)


@pytest.fixture(scope="module")
def hot() -> Trace:
    """More than half of the prompts want one expert, and more than one worker can answer."""
    return make_trace("zipf", 3000, 24, rate=25.0, exponent=1.8, seed=1)


def test_a_hot_expert_spreads_and_cold_ones_stay(hot: Trace) -> None:
    alone, spread = simulate(hot, HASHED), simulate(hot, Mappers())
    assert len(spread.prompts["expert-00"]) > 2
    assert len(alone.prompts["expert-00"]) == 1
    assert sum(spread.waits) < 0.5 * sum(alone.waits)
    asked = Counter(hot.experts)
    cold = [expert for expert, count in asked.items() if count < 60]
    assert cold
    # Most of a cold expert's prompts meet on one worker, though all its workers are busy in turn.
    assert sum(max(spread.prompts[expert].values()) for expert in cold) > 0.6 * sum(asked[expert] for expert in cold)


def test_while_nobody_waits_no_expert_is_on_two_workers(hot: Trace) -> None:
    idle = simulate(hot.paced(0.02), Mappers())
    assert all(len(workers) == 1 for workers in idle.prompts.values())


def test_every_prompt_is_answered_once(hot: Trace) -> None:
    assert sum(len(one.latencies) for one in simulate(hot, Mappers()).served) == len(hot)


@pytest.mark.parametrize("mappers", [1, 3])
def test_queues_even_out_over_workers_for_few_more_loads(mappers: int) -> None:
    """Hashing gives one worker twice its share; looking at queues and residency does not."""
    trace = make_trace("zipf", 3000, 48, rate=30.0, seed=1)
    hashed, looked = simulate(trace, HASHED), simulate(trace, Mappers(count=mappers, view_age_s=0.4))
    assert max(len(one.latencies) for one in hashed.served) > 1.4 * 750
    assert max(len(one.latencies) for one in looked.served) < 1.4 * 750
    assert np.percentile(looked.waits, 99) < 0.5 * np.percentile(hashed.waits, 99)
    assert looked.loads < 2 * hashed.loads


@pytest.mark.parametrize("mappers", [1, 3])
def test_old_views_send_nobody_all_to_one_worker(mappers: int) -> None:
    """A burst for one expert, seen late."""
    trace = Trace([0.001 * index for index in range(1200)], ["expert"] * 1200, [0] * 1200, [24] * 1200)
    by_worker = simulate(trace, Mappers(count=mappers, view_age_s=0.3)).prompts["expert"]
    assert max(by_worker.values()) < 1.6 * 300
    assert min(by_worker.values()) > 0.5 * 300


def test_a_new_worker_takes_its_share_and_leaves_the_rest_where_it_was() -> None:
    """As partitions move, so do their experts, and no others."""
    trace = make_trace("zipf", 1500, 200, rate=4.0, exponent=0.5, seed=2)
    five = [4 if partition % 5 == 0 else owner for partition, owner in enumerate(FOUR)]
    before, after = simulate(trace, HASHED).prompts, simulate(trace, HASHED, five).prompts
    moved = [expert for expert in before if before[expert].keys() != after[expert].keys()]
    assert all(after[expert].keys() == {4} for expert in moved)
    assert set(moved) == {e for e in before if five[partition_of(e, 0, PARTITIONS)] == 4}
    assert 0.1 < len(moved) / len(before) < 0.35
