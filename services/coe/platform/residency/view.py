"""The view of the cluster, and its representation in Redis."""

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
PARTITIONS = "partitions"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim to partitions of the assignments topic, and since when (milliseconds since 1970)."""

    since_ms: int
    partitions: tuple[int, ...]


@dataclass(frozen=True)
class NodeView:
    """A node in its newest epoch."""

    epoch: int
    experts: Mapping[str, pb.ExpertResidency] = field(default_factory=dict)
    usage: Mapping[int, pb.TierUsage] = field(default_factory=dict)
    # Worker -> expert -> prompts waiting or running there.
    queues: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterView:
    """Nodes by name. Empty if Redis is unreachable or has no data."""

    nodes: Mapping[str, NodeView] = field(default_factory=dict)


def node_key(node: str, epoch: int) -> str:
    return f"coe:node:{{{node}}}:{epoch}"


def queue_key(worker: str) -> str:
    return f"coe:queues:{{{worker}}}"


def parse_node(epoch: int, fields: Mapping[bytes, bytes], workers: Mapping[str, "WorkerView"]) -> NodeView:
    """Parses a node's key. Skips fields of newer versions."""
    experts: dict[str, pb.ExpertResidency] = {}
    usage: dict[int, pb.TierUsage] = {}
    for name, value in fields.items():
        text = name.decode()
        if text.startswith(EXPERT):
            experts[text.removeprefix(EXPERT)] = pb.ExpertResidency.FromString(value)
        elif text.startswith(TIER):
            usage[int(text.removeprefix(TIER))] = pb.TierUsage.FromString(value)
    queues = {name: worker.queue for name, worker in workers.items()}
    claims = {name: worker.claim for name, worker in workers.items() if worker.claim is not None}
    return NodeView(epoch, experts, usage, queues, claims)


@dataclass(frozen=True, slots=True)
class WorkerView:
    node: str
    queue: Mapping[str, int]
    claim: Claim | None


def claim_field(claim: Claim) -> bytes:
    return f"{claim.since_ms}:{','.join(map(str, claim.partitions))}".encode()


def parse_worker(fields: Mapping[bytes, bytes]) -> WorkerView:
    """Parses a worker's key. Raises ValueError."""
    queue = {
        name.decode().removeprefix(EXPERT): int(value)
        for name, value in fields.items()
        if name.startswith(EXPERT.encode())
    }
    claim = None
    if (said := fields.get(PARTITIONS.encode())) is not None:
        since_ms, _, numbers = said.decode().partition(":")
        claim = Claim(int(since_ms), tuple(int(number) for number in numbers.split(",") if number))
    return WorkerView(fields.get(NODE.encode(), b"").decode(), queue, claim)
