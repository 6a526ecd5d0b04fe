"""Determines how many processors this process may use; in containers or under taskset, fewer than the machine has."""

import os
from collections.abc import Iterator
from pathlib import Path

from coe.platform.cgroup import OWN, ROOT, limits


def processors(own: Path = OWN, root: Path = ROOT) -> int:
    """The number of processors in the affinity mask, limited to the whole processors that the cgroup quota allows.

    With more, threads that spin while waiting for each other would use up the quota and all be throttled for the rest
    of each period.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, _quotas(own, root))]))


def _quotas(own: Path, root: Path) -> Iterator[float]:
    """Yields the CPU quotas that apply, in processors."""
    for limit in limits("cpu.max", own, root):
        match limit.split():
            case [quota, period] if quota.isdecimal():
                yield int(quota) / int(period)
