"""The view of Redis as the choice of replicas needs it."""

from coe._proto import memory_tier_manager_pb2 as pb
from coe.mapper.cluster import cluster_of
from coe.platform.residency import Claim, ClusterView, NodeView


def expert(name: str, tier: pb.Tier, state: pb.ResidencyState) -> pb.ExpertResidency:
    return pb.ExpertResidency(expert_id=name, tier=tier, state=state)


def test_workers_of_a_node_share_its_hbm() -> None:
    experts = [
        expert("there", pb.TIER_HBM, pb.RESIDENCY_STATE_RESIDENT),
        expert("coming", pb.TIER_HBM, pb.RESIDENCY_STATE_LOADING),
        expert("leaving", pb.TIER_HBM, pb.RESIDENCY_STATE_EVICTING),
        expert("below", pb.TIER_DDR, pb.RESIDENCY_STATE_RESIDENT),
    ]
    node = NodeView(1, {one.expert_id: one for one in experts}, queues={"w": {"a": 2}, "x": {}})
    cluster = cluster_of(ClusterView({"n": node, "m": NodeView(1, queues={"y": {"b": 4}})}))
    assert cluster.queued == {"w": {"a": 2}, "x": {}, "y": {"b": 4}}
    assert cluster.resident == {"w": {"there", "coming"}, "x": {"there", "coming"}, "y": set()}


def test_a_partition_is_of_the_worker_that_claimed_it_last() -> None:
    dead = NodeView(1, claims={"dead": Claim(10, (0, 1, 2, 3))})
    alive = NodeView(1, claims={"alive": Claim(20, (2, 3)), "newest": Claim(30, (1,))})
    for nodes in ({"a": dead, "b": alive}, {"b": alive, "a": dead}):
        assert cluster_of(ClusterView(nodes)).owners == {0: "dead", 1: "newest", 2: "alive", 3: "alive"}


def test_what_can_be_no_partition_is_nobodys() -> None:
    node = NodeView(1, claims={"broken": Claim(9, (-1, 2**40)), "w": Claim(1, (0, 3))})
    cluster = cluster_of(ClusterView({"n": node}))
    assert (cluster.owners, cluster.partitions) == ({0: "w", 3: "w"}, 4)


def test_partitions_are_remembered_while_redis_is_away() -> None:
    known = cluster_of(ClusterView({"n": NodeView(1, claims={"w": Claim(1, (0, 7))})}))
    assert known.partitions == 8
    assert cluster_of(ClusterView(), known.partitions) == cluster_of(ClusterView(), 8)
    assert cluster_of(ClusterView(), 8).partitions == 8
    assert cluster_of(ClusterView()).partitions == 0
