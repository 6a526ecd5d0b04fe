"""Turns facts about a deployment into checks. Pure: `facts.py` collects the facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from coe.local.doctor.check import Check, Level, judged
from coe.local.doctor.groups import GroupFacts
from coe.memory_tier_manager.extents import rounded
from coe.platform.bus.api import TopicSpec

_SAFE_REPLICAS = 3
# Size of the arena's header: the records of its 1,024 slots.
_RECORDS = 2 << 20
# The brokers' own topics for offsets and transactions, created on first use. Without them nothing is answered.
BROKERS_OWN = (TopicSpec("__consumer_offsets", 1), TopicSpec("__transaction_state", 1))


@dataclass(frozen=True)
class TopicFacts:
    """`replicas` and `in_sync`: the lowest over all partitions. `min_in_sync` 0 or an empty `config`: unknown."""

    partitions: int
    replicas: int
    in_sync: int
    min_in_sync: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KafkaFacts:
    """`error`: why nothing is known; empty when the facts are valid."""

    brokers: int = 0
    topics: Mapping[str, TopicFacts] = field(default_factory=dict)
    groups: Mapping[str, GroupFacts] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class RedisFacts:
    """`mode`: standalone or cluster, as the server reports it. `nodes`: those that publish their residency there.

    `hbm_bytes`: node -> budget of its HBM tier, as its manager publishes it.
    """

    mode: str = ""
    version: str = ""
    slots_covered: bool = True
    nodes: Sequence[str] = ()
    hbm_bytes: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


def kafka_checks(facts: KafkaFacts, wanted: Sequence[TopicSpec]) -> list[Check]:
    if facts.error:
        return [
            Check(
                "Kafka",
                Level.PROBLEM,
                facts.error,
                "start the stack (coe up), or set COE_KAFKA_BOOTSTRAP, COE_KAFKA_SECURITY and COE_KAFKA_SASL_*",
            )
        ]
    few = "with fewer than 3 brokers, losing one loses its data"
    checks = [
        judged("Kafka brokers", facts.brokers >= _SAFE_REPLICAS, str(facts.brokers), few, otherwise=Level.WARNING)
    ]
    checks += [_topic(spec, facts.topics.get(spec.name), facts.brokers) for spec in wanted]
    for spec in BROKERS_OWN:
        if found := facts.topics.get(spec.name):
            # Brokers write to these topics even if they never had min.insync.replicas replicas.
            enough = min(found.min_in_sync, found.replicas)
            checks.append(_topic(spec, replace(found, min_in_sync=enough), facts.brokers))
    return checks + [_group(name, found) for name, found in facts.groups.items()]


def _group(name: str, found: GroupFacts) -> Check:
    """Consumer lag is not a fault while the group has members: it only shows where prompts queue."""
    level = Level.GOOD if found.members else Level.PROBLEM if found.left else Level.WARNING
    said = f"{found.members} members, {found.left} records of {found.topic} unprocessed"
    fix = (
        ""
        if found.members
        else f"no consumer reads {found.topic}: is that service running with this COE_KAFKA_BOOTSTRAP?"
    )
    return Check(f"group {name}", level, said, fix)


def _topic(spec: TopicSpec, found: TopicFacts | None, brokers: int) -> Check:
    name = f"topic {spec.name}"
    if found is None:
        return Check(
            name,
            Level.PROBLEM,
            "missing",
            "restart any service: it creates the topic on startup if the broker allows it",
        )
    said = f"{found.partitions} partitions, {found.replicas} replicas, {found.in_sync} in sync"
    if found.partitions < spec.partitions:
        return Check(name, Level.PROBLEM, said, f"{spec.partitions} partitions are required: kafka-topics.sh --alter")
    if found.in_sync < max(1, found.min_in_sync):
        return Check(
            name,
            Level.PROBLEM,
            said,
            f"writes block until {found.min_in_sync} replicas are in sync: repair the brokers",
        )
    if wrong := _wrong_config(spec.config, found.config):
        settings = ",".join(f"{key}={spec.config[key]}" for key in wrong)
        said = ", ".join([said, *(f"{key} {found.config[key]}" for key in wrong)])
        fix = f"kafka-configs.sh --alter --entity-type topics --entity-name {spec.name} --add-config {settings}"
        return Check(name, Level.PROBLEM, said, fix)
    if found.in_sync < found.replicas:
        return Check(name, Level.WARNING, said, "a replica lags or its broker is down")
    if found.replicas < min(_SAFE_REPLICAS, brokers):
        return Check(name, Level.WARNING, said, "add replicas with kafka-reassign-partitions.sh")
    if found.replicas >= _SAFE_REPLICAS and found.min_in_sync == 1:
        return Check(name, Level.WARNING, f"{said}, min.insync.replicas 1", "set min.insync.replicas to 2")
    return Check(name, Level.GOOD, said)


def _wrong_config(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Settings that a topic created by someone else, or by an older version, gets wrong. Larger sizes are fine."""
    return [
        key
        for key, value in wanted.items()
        # Retention is the operator's choice.
        if key in found and key != "retention.ms"
        if (int(found[key]) < int(value) if value.isdecimal() else found[key] != value)
    ]


def redis_checks(facts: RedisFacts, url_kind: str) -> list[Check]:
    """`url_kind`: cluster, sentinel, or "" for a single server, according to COE_REDIS_URL."""
    if facts.error:
        fix = "prompts are answered without it but placed less well: set COE_REDIS_URL or check the server"
        return [Check("Redis", Level.WARNING, facts.error, fix)]
    fits = (facts.mode == "cluster") == (url_kind == "cluster")
    fix = "use redis+cluster:// in the URL for a cluster, and only for a cluster"
    found = f"{facts.version}, {facts.mode}" + (" behind sentinels" if url_kind == "sentinel" else "")
    checks = [judged("Redis", fits, found, fix)]
    if facts.mode == "cluster":
        covered = "all slots served" if facts.slots_covered else "some slots have no server"
        checks.append(judged("Redis cluster", facts.slots_covered, covered, "redis-cli --cluster fix"))
    nodes = ", ".join(facts.nodes) or "none"
    fix = "no memory-tier manager publishes its state: is one running with this COE_REDIS_URL?"
    return [*checks, judged("nodes seen in Redis", bool(facts.nodes), nodes, fix, otherwise=Level.WARNING)]


DEFAULT_TIER = "the default of COE_TIERS_HBM_BYTES"


def memory_check(shared_bytes: int, hbm_bytes: int, whose: str = "") -> Check:
    """Whether this machine's /dev/shm can hold its HBM tier. `whose`: where `hbm_bytes` comes from.

    With the default it is only a warning: this machine may reach the broker without hosting a tier.
    """
    needed = rounded(hbm_bytes) + _RECORDS
    fix = "docker: --shm-size; Kubernetes: node.sharedMemory; else mount -o remount,size=... /dev/shm"
    found = f"{shared_bytes >> 20} MiB; the HBM tier needs {needed >> 20} MiB{f' ({whose})' if whose else ''}"
    level = Level.WARNING if whose == DEFAULT_TIER else Level.PROBLEM
    return judged("/dev/shm", shared_bytes >= needed, found, fix, otherwise=level)


def service_checks(troubles: Mapping[str, str]) -> list[Check]:
    """`troubles`: why each service does not serve; empty for one that does."""
    fix = "see its log; if it runs but does not answer, it hangs: kill it (SIGKILL) and it is restarted"
    return [judged(name, not why, f"not serving: {why}" if why else "serving", fix) for name, why in troubles.items()]


def hbm_tier(facts: RedisFacts, node: str, given: int | None, default: int) -> tuple[int, str]:
    """Size of this machine's HBM tier in bytes, and its source: the setting if `given`, else what the manager of `node`
    publishes, else a manager's `default`.
    """
    if given is not None:
        return given, "COE_TIERS_HBM_BYTES"
    if node in facts.hbm_bytes:
        return facts.hbm_bytes[node], f"as reported by {node}"
    return default, DEFAULT_TIER
