"""A lower bound on switches: what a schedule that knows the whole trace could achieve."""

import heapq
from collections import defaultdict

from coe.simulation.trace import Trace


def fewest_loads(trace: Trace, room: int, max_wait: float) -> int:
    """Counts loads under Belady's rule (MIN) over the fewest visits that keep every wait within `max_wait` seconds.

    Each expert is visited as late as its oldest waiting prompt allows and then answers all its waiting prompts. The
    expert whose next visit is farthest away is evicted. Execution takes no time, so a real schedule rarely gets this
    low.
    """
    visits = _visits(trace, max_wait)
    later: dict[str, list[int]] = defaultdict(list)
    for position in reversed(range(len(visits))):
        later[visits[position]].append(position)
    resident: dict[str, int] = {}
    # (-next visit, expert), a heap; entries whose next visit has changed are skipped.
    farthest: list[tuple[int, str]] = []
    loads = 0
    for expert in visits:
        later[expert].pop()
        following = later[expert][-1] if later[expert] else len(visits)
        if expert not in resident:
            loads += 1
            while len(resident) >= room:
                position, victim = heapq.heappop(farthest)
                if resident.get(victim) == -position:
                    del resident[victim]
        resident[expert] = following
        heapq.heappush(farthest, (-following, expert))
    return loads


def _visits(trace: Trace, max_wait: float) -> list[str]:
    """Experts in the order of their visits."""
    times: dict[str, float] = {}
    visits: list[tuple[float, int, str]] = []
    for index, (arrival, expert) in enumerate(zip(trace.arrivals, trace.experts, strict=True)):
        if expert not in times or arrival > times[expert]:
            times[expert] = arrival + max_wait
            visits.append((times[expert], index, expert))
    return [expert for _, _, expert in sorted(visits)]
