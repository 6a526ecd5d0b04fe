"""A simulated cluster: experts placed by expected load, hot ones replicated, and each node run on its own prompts."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coe.platform.errors import CapacityExceeded
from coe.scheduling import make_policy
from coe.simulation.hardware import Hardware
from coe.simulation.node import serve
from coe.simulation.trace import Trace, names, zipf


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """`node_hours`: per million prompts at this rate. `keeps_up`: the last answer came soon after the last prompt.

    `executing` and `copying`: the share of time that the busiest node executes and that the busiest link copies.
    """

    rate: float
    prompts_s: float
    p50_s: float
    p99_s: float
    loads_per_prompt: float
    node_hours: float
    executing: float
    copying: float
    keeps_up: bool


def place(shares: Sequence[float], nodes: int, room: int) -> list[list[int]]:
    """Returns the nodes of each expert. `room`: how many experts a node can store.

    An expert gets enough replicas, up to one per node, that none carries more than half a node's share of the load. The
    heaviest replicas are placed first, each on the least loaded node with room. Raises CapacityExceeded if the experts
    do not fit.
    """
    if len(shares) > nodes * room:
        raise CapacityExceeded(f"{len(shares)} experts do not fit: a node stores {room}, and there are {nodes}")
    replicas = [min(nodes, max(1, math.ceil(share * nodes / 0.5))) for share in shares]
    load = [(0.0, node) for node in range(nodes)]
    stored = [0] * nodes
    placed: list[list[int]] = [[] for _ in shares]
    for expert in sorted(range(len(shares)), key=lambda one: -shares[one] / replicas[one]):
        aside = []
        while load and len(placed[expert]) < replicas[expert]:
            carried, node = heapq.heappop(load)
            if stored[node] < room:
                placed[expert].append(node)
                stored[node] += 1
                carried += shares[expert] / replicas[expert]
            aside.append((carried, node))
        for entry in aside:
            heapq.heappush(load, entry)
        if not placed[expert]:
            raise CapacityExceeded("the nodes are full: fewer replicas or more nodes are needed")
    return placed


def simulate_cluster(
    machine: Hardware,
    *,
    nodes: int,
    experts: int,
    expert_bytes: int,
    rate: float,
    prompts: int,
    policy: str,
    exponent: float = 1.0,
    max_batch: int = 16,
    max_wait: float = 20.0,
    tokens: tuple[int, int] = (16, 32),
    seed: int = 0,
) -> ClusterFigures:
    """`rate`: prompts per second over the whole cluster, with Poisson arrivals."""
    law = zipf(experts, exponent)
    placed = place(law.tolist(), nodes, machine.store_bytes // expert_bytes)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(experts, prompts, p=law)
    arrivals = np.cumsum(rng.exponential(1 / rate, prompts))
    output = rng.integers(tokens[0], tokens[1] + 1, prompts)
    turns = [0] * experts
    node_of = np.empty(prompts, int)
    for index, expert in enumerate(chosen):
        node_of[index] = placed[expert][turns[expert] % len(placed[expert])]
        turns[expert] += 1
    called = names(experts)
    latencies: list[float] = []
    loads, ended_at, busiest_s, most_loads = 0, 0.0, 0.0, 0
    for node in range(nodes):
        mine = np.flatnonzero(node_of == node)
        trace = Trace(
            arrivals[mine].tolist(), [called[chosen[one]] for one in mine], [0] * len(mine), output[mine].tolist()
        )
        served = serve(
            trace, machine, make_policy(policy, max_wait=max_wait), expert_bytes=expert_bytes, max_batch=max_batch
        )
        latencies += served.latencies
        loads += served.loads
        busiest_s, most_loads = max(busiest_s, served.busy_s), max(most_loads, served.loads)
        ended_at = max(ended_at, served.ended_at)
    p50, p99 = np.percentile(latencies, (50, 99))
    return ClusterFigures(
        rate,
        prompts / ended_at,
        float(p50),
        float(p99),
        loads / prompts,
        nodes * 1e6 / min(rate, prompts / ended_at) / 3600,
        busiest_s / ended_at,
        most_loads * machine.load_s(expert_bytes) / ended_at,
        bool(ended_at < arrivals[-1] + 3 * max_wait),
    )
