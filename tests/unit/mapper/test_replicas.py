"""Replicas grow with the queue; picks are even and stay put."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coe.mapper.queues import total_depths
from coe.mapper.replicas import in_share, pick_replica, replica_count
from coe.platform.residency import ClusterView, NodeView


def test_one_more_for_each_full_queue() -> None:
    counts = [replica_count(queued, per_replica=16, most=3) for queued in (0, 15, 16, 32, 1000)]
    assert counts == [1, 1, 2, 3, 3]


@given(st.text(), st.integers(1, 64))
def test_a_pick_is_a_replica_and_the_same_each_time(affinity: str, count: int) -> None:
    replica = pick_replica(affinity, count)
    assert 0 <= replica < count
    assert replica == pick_replica(affinity, count)


def test_picks_are_even() -> None:
    picks = Counter(pick_replica(f"request-{number}", 4) for number in range(4000))
    assert min(picks.values()) > 850


def test_shares_are_kept_and_their_ends_are_exact() -> None:
    names = [f"request-{number}" for number in range(4000)]
    assert 300 < sum(in_share(name, 0.1) for name in names) < 500
    assert not any(in_share(name, 0.0) for name in names)
    assert all(in_share(name, 1.0) for name in names)


def test_depths_are_summed_over_workers_and_nodes() -> None:
    view = ClusterView(
        {"n": NodeView(1, queues={"w": {"a": 2}, "x": {"a": 1}}), "m": NodeView(1, queues={"y": {"b": 4}})}
    )
    assert total_depths(view) == {"a": 3, "b": 4}
