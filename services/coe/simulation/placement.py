"""Runs the mapper's choice of replicas over simulated workers, one node each.

Several mappers may share the prompts. Each knows its own choices and sees the workers as they were at its last refresh.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coe.mapper.replicas import Cluster, Replicas, Rule
from coe.scheduling import make_policy
from coe.simulation.hardware import Hardware
from coe.simulation.node import Node, Served
from coe.simulation.trace import Trace


@dataclass(frozen=True, slots=True)
class Mappers:
    """`view_age_s`: the maximum age of the view that they decide on."""

    count: int = 1
    view_age_s: float = 0.2
    rule: Rule = field(default_factory=Rule)


@dataclass(frozen=True, slots=True)
class Placed:
    """`served`: the outcome of each worker. `prompts`: for each expert, how many prompts each worker got."""

    served: Sequence[Served]
    prompts: Mapping[str, Counter[int]]

    @property
    def loads(self) -> int:
        return sum(one.loads for one in self.served)

    @property
    def waits(self) -> list[float]:
        return [wait for one in self.served for wait in one.waits]


def simulate_placement(
    trace: Trace,
    machine: Hardware,
    owners: Sequence[int],
    mappers: Mappers,
    *,
    expert_bytes: int,
    policy: str = "lookahead",
    max_batch: int = 16,
    max_wait: float = 20.0,
) -> Placed:
    """`owners`: the worker of each partition. Every prompt is a conversation of its own."""
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
    asked = [Replicas(mappers.rule) for _ in range(mappers.count)]
    seen_at = -mappers.view_age_s
    for index, (arrival, expert) in enumerate(zip(trace.arrivals, trace.experts, strict=True)):
        if arrival >= seen_at + mappers.view_age_s:
            for node in nodes:
                node.advance(arrival)
            seen_at, cluster = arrival, _cluster(nodes, owners)
            for one in asked:
                one.saw(cluster)
        choice = asked[index % mappers.count].choose(expert, str(index), arrival)
        assert choice.partition is not None
        worker = owners[choice.partition]
        prompts[expert][worker] += 1
        mine[worker].append(arrival, expert, trace.prompt_tokens[index], trace.output_tokens[index])
    return Placed([node.run() for node in nodes], prompts)


def _cluster(nodes: Sequence[Node], owners: Sequence[int]) -> Cluster:
    return Cluster(
        len(owners),
        {partition: str(worker) for partition, worker in enumerate(owners)},
        {str(worker): node.depths() for worker, node in enumerate(nodes)},
        {str(worker): set(node.resident) for worker, node in enumerate(nodes)},
    )
