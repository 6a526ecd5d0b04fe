"""Which worker answers: the mapper's rule for replicas, as it runs, over simulated workers.

A prompt's key is its expert and replica, the key's hash gives the partition, the partition has an owner. How many
replicas an expert has follows from the prompts that wait for it, as the mapper read them a moment ago.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coe.mapper.replicas import pick_replica, replica_count, share_of
from coe.scheduling import make_policy
from coe.simulation.hardware import Hardware
from coe.simulation.node import Node, Served
from coe.simulation.trace import Trace


@dataclass(frozen=True, slots=True)
class Rule:
    """The mapper's settings. `view_age_s`: how old the depths are that it decides by."""

    queued_per_replica: int = 16
    max_replicas: int = 4
    view_age_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Placed:
    """By worker: what it served. By expert: prompts that each worker got, and the most replicas at a time."""

    served: Sequence[Served]
    prompts: Mapping[str, Counter[int]]
    replicas: Mapping[str, int]

    @property
    def loads(self) -> int:
        return sum(one.loads for one in self.served)

    @property
    def waits(self) -> list[float]:
        return [wait for one in self.served for wait in one.waits]


def partition_of(expert: str, replica: int, partitions: int) -> int:
    return share_of(f"{expert}#{replica}") % partitions


def simulate_placement(
    trace: Trace,
    machine: Hardware,
    owners: Sequence[int],
    rule: Rule,
    *,
    expert_bytes: int,
    policy: str = "lookahead",
    max_batch: int = 16,
    max_wait: float = 20.0,
) -> Placed:
    """`owners`: the worker of each partition. Conversations are one prompt long."""
    mine = [Trace([], [], [], []) for _ in range(max(owners) + 1)]
    nodes = [
        Node(
            part,
            machine,
            make_policy(policy, max_wait=max_wait),
            expert_bytes=expert_bytes,
            max_batch=max_batch,
            like=trace,
        )
        for part in mine
    ]
    prompts: dict[str, Counter[int]] = defaultdict(Counter)
    replicas: Counter[str] = Counter()
    depths: Counter[str] = Counter()
    seen_at = 0.0
    for index, (arrival, expert) in enumerate(zip(trace.arrivals, trace.experts, strict=True)):
        if arrival >= seen_at + rule.view_age_s:
            for node in nodes:
                node.advance(arrival)
            seen_at, depths = arrival, sum((node.depths() for node in nodes), Counter())
        count = replica_count(depths[expert], per_replica=rule.queued_per_replica, most=rule.max_replicas)
        replicas[expert] = max(replicas[expert], count)
        worker = owners[partition_of(expert, pick_replica(str(index), count), len(owners))]
        prompts[expert][worker] += 1
        mine[worker].append(arrival, expert, trace.prompt_tokens[index], trace.output_tokens[index])
    return Placed([node.run() for node in nodes], prompts, replicas)
