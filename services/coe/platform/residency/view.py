"""What Redis says about the cluster, and how it is written there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coe._proto import memory_tier_manager_pb2 as pb

EPOCHS = "coe:epochs"
WORKERS = "coe:workers"
LIFETIME_S = 15
SIGN_OF_LIFE_S = 5.0

EXPERT = "expert:"
TIER = "tier:"
NODE = "node"


@dataclass(frozen=True)
class NodeView:
    """One node in its newest epoch."""

    epoch: int
    experts: Mapping[str, pb.ExpertResidency] = field(default_factory=dict)
    usage: Mapping[int, pb.TierUsage] = field(default_factory=dict)
    # Worker -> expert -> prompts waiting or running there.
    queues: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterView:
    """Node name -> what it holds. Empty when Redis is away or knows nothing."""

    nodes: Mapping[str, NodeView] = field(default_factory=dict)


def node_key(node: str, epoch: int) -> str:
    return f"coe:node:{{{node}}}:{epoch}"


def queue_key(worker: str) -> str:
    return f"coe:queues:{{{worker}}}"


def parse_node(epoch: int, fields: Mapping[bytes, bytes], queues: Mapping[str, Mapping[str, int]]) -> NodeView:
    """Fields of a newer version are skipped."""
    experts: dict[str, pb.ExpertResidency] = {}
    usage: dict[int, pb.TierUsage] = {}
    for name, value in fields.items():
        text = name.decode()
        if text.startswith(EXPERT):
            experts[text.removeprefix(EXPERT)] = pb.ExpertResidency.FromString(value)
        elif text.startswith(TIER):
            usage[int(text.removeprefix(TIER))] = pb.TierUsage.FromString(value)
    return NodeView(epoch, experts, usage, queues)


def parse_queues(fields: Mapping[bytes, bytes]) -> tuple[str, dict[str, int]]:
    """(node, expert -> depth) of one worker."""
    depths = {
        name.decode().removeprefix(EXPERT): int(value)
        for name, value in fields.items()
        if name.startswith(EXPERT.encode())
    }
    return fields.get(NODE.encode(), b"").decode(), depths
