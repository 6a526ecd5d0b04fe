"""What a cluster can do: the highest rate at which latency is as wanted, and what breaks beyond it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from coe.simulation.cluster import ClusterFigures, simulate_cluster
from coe.simulation.hardware import DGX_A100, Hardware

# Of the highest rate: what the figures are reported at. Beyond 1 it breaks.
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.2)
PRECISION = 0.03
# Simulated seconds at least, for each second of the latency that is wanted.
DURATION = 6


@dataclass(frozen=True, slots=True)
class Wish:
    """`p99_s`: from a prompt's arrival to the end of its answer. `prompts`: of each simulation, at least."""

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
        """Over a time that is long beside `p99_s`: a short overload would end before it shows."""
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
    """`holds`: experts that the cluster stores at most. `dgx_nodes`: DGX machines that would keep all in their HBM.

    `breaks`: what is used up first beyond `highest_rate`: "execution", "copies", or "latency" while neither is.
    """

    highest_rate: float
    holds: int
    dgx_nodes: int
    breaks: str
    figures: tuple[ClusterFigures, ...]


def plan(wish: Wish, progress: Callable[[float], None]) -> Planned:
    """Raises CapacityExceeded when the experts do not fit. `progress` hears of each rate that was tried."""

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
    """Experts in the HBM of one DGX, beside the router (an expert's size) and 5 % for KV caches and workspace."""
    return int(DGX_A100.hbm_bytes * 0.95 - expert_bytes) // expert_bytes


def overlapping(machine: Hardware) -> Hardware:
    """The machine with copies beside execution, as our runtime does it."""
    return replace(machine, overlap=True)


def _highest(good: Callable[[float], bool], start: float) -> float:
    """The highest rate that is good, found by doubling and halving, then by bisection; 0 when none is."""
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
