"""The broker's settings: a small node that starts fast, keeps little and rebalances at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# In the folder where the broker runs, whose path may have commas, which part a list, and letters of any alphabet.
DATA = "data"


@dataclass(frozen=True)
class KafkaNode:
    """One KRaft node, broker and controller in one. `voters`: node id -> controller port, of all nodes."""

    node_id: int
    port: int
    voters: Mapping[int, int]
    host: str = "127.0.0.1"
    # Java heap, MiB. Kafka keeps its data in the page cache: little heap is enough.
    heap_mb: int = 384
    # More settings of the broker, which win over those below.
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"


def properties(node: KafkaNode) -> str:
    """The text of server.properties."""
    replicas = min(3, len(node.voters))
    voters = ",".join(f"{voter}@{node.host}:{port}" for voter, port in sorted(node.voters.items()))
    settings = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": f"PLAINTEXT://{node.bootstrap},CONTROLLER://{node.host}:{node.voters[node.node_id]}",
        "advertised.listeners": f"PLAINTEXT://{node.bootstrap}",
        "log.dirs": DATA,
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": max(1, replicas - 1),
        # Internal topics: few partitions (each costs file handles and start time) and no more replicas than nodes.
        "offsets.topic.num.partitions": 8,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 8,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "share.coordinator.state.topic.num.partitions": 2,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": max(1, replicas - 1),
        # Not while a broker that was killed starts again: of a transaction that it ends before it serves it writes no
        # markers, and readers wait for ever for that transaction's end.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 60_000,
        # A group starts at once and a dead member is found soon.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.segment.bytes": 64 * 1024 * 1024,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.retention.hours": 24,
    }
    if len(node.voters) == 1:
        # Nobody could take over. A busy machine that keeps it from its heartbeats must not lose it its partitions.
        # But one that was killed can't register anew before its session has ended, and gives up after 60 s.
        settings["broker.session.timeout.ms"] = 18_000
    lines = {**settings, **node.extra}
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def java_options(node: KafkaNode) -> list[str]:
    """Options of the Java virtual machine: one node of a small stack, on few cores.

    The quick compiler alone: the optimising one costs a small stack more than it ever earns. Over 15,000 prompts and a
    warm-up of 2,500: 0.46 ms of CPU a prompt instead of 0.68.
    """
    return [
        f"-Xms{node.heap_mb // 4}m",
        f"-Xmx{node.heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:TieredStopAtLevel=1",
    ]
