"""Capacity planning: the highest rate at which a cluster meets a latency target, and what limits it beyond that."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from coe.simulation.cluster import ClusterFigures, simulate_cluster
from coe.simulation.hardware import DGX_A100, Hardware

# The figures are reported at these shares of the highest rate. Above 1 the target is missed.
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.2)
PRECISION = 0.03
# Minimum simulated seconds per second of target latency.
DURATION = 6


@dataclass(frozen=True, slots=True)
class Wish:
    """`p99_s`: from a prompt's arrival to the end of its answer. `prompts`: the minimum of each simulation."""

    machine: Hardware
    nodes: int
    experts: int
    expert_bytes: int
    prompts: int
    policy: str
    max_batch: int
    max_wait: float
    p99_s: float
    seed: int = 0

    def at(self, rate: float) -> ClusterFigures:
        """Simulates `rate` for several times `p99_s`, as a shorter run would end before an overload shows."""
        return simulate_cluster(
            self.machine,
            nodes=self.nodes,
            experts=self.experts,
            expert_bytes=self.expert_bytes,
            rate=rate,
            prompts=max(self.prompts, int(DURATION * self.p99_s * rate)),
            policy=self.policy,
            max_batch=self.max_batch,
            max_wait=self.max_wait,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """`holds`: how many experts the cluster can store. `dgx_nodes`: how many DGX machines could hold all in HBM.

    `breaks`: what saturates first beyond `highest_rate`: "execution", "copies", or "latency" if neither does.
    """

    highest_rate: float
    holds: int
    dgx_nodes: int
    breaks: str
    figures: tuple[ClusterFigures, ...]


def plan(wish: Wish, progress: Callable[[float], None]) -> Planned:
    """Raises CapacityExceeded if the experts do not fit. `progress` is called with each rate before it is tried."""

    def good(rate: float) -> bool:
        progress(rate)
        found = wish.at(rate)
        return found.keeps_up and found.p99_s <= wish.p99_s

    highest = _highest(good, start=float(wish.nodes))
    figures = []
    for share in SHARES:
        progress(share * highest)
        figures.append(wish.at(share * highest))
    return Planned(
        highest,
        wish.nodes * (wish.machine.store_bytes // wish.expert_bytes),
        -(-wish.experts // dgx_room(wish.expert_bytes)),
        _breaks(figures[-1]),
        tuple(figures),
    )


def dgx_room(expert_bytes: int) -> int:
    """How many experts fit in the HBM of one DGX, next to the router (as large as one) and 5 % for KV and workspace."""
    return int(DGX_A100.hbm_bytes * 0.95 - expert_bytes) // expert_bytes


def overlapping(machine: Hardware) -> Hardware:
    """The same machine with copies overlapping execution, as in our runtime."""
    return replace(machine, overlap=True)


def _highest(good: Callable[[float], bool], start: float) -> float:
    """The highest good rate, found by doubling or halving and then by bisection; 0 if there is none."""
    low, high = (start, 2 * start) if good(start) else (0.0, start)
    while low and good(high):
        low, high = high, 2 * high
    while not low and high > start / 1024:
        if good(high / 2):
            low = high / 2
        else:
            high /= 2
    while low and high / low > 1 + PRECISION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def _breaks(beyond: ClusterFigures) -> str:
    if max(beyond.executing, beyond.copying) < 0.9:
        return "latency"
    return "execution" if beyond.executing >= beyond.copying else "copies"
