"""How many processors this process may use: in a container, or under taskset, fewer than the machine has."""

import os
from collections.abc import Iterator
from pathlib import Path

from coe.platform.cgroup import OWN, ROOT, limits


def processors(own: Path = OWN, root: Path = ROOT) -> int:
    """Those that it is bound to, and no more than its cgroup lets it use whole: threads that spin for each other on
    more of them would be halted together for the rest of each period.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, _quotas(own, root))]))


def _quotas(own: Path, root: Path) -> Iterator[float]:
    """Processors' worth of time."""
    for limit in limits("cpu.max", own, root):
        match limit.split():
            case [quota, period] if quota.isdecimal():
                yield int(quota) / int(period)
