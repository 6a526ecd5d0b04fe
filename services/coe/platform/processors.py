"""How many processors this process may use: in a container, or under taskset, fewer than the machine has."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath


def processors(own: Path = Path("/proc/self/cgroup"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Those that it is bound to, and no more than its cgroup (version 2) lets it use whole: threads that spin for each
    other on more of them would be halted together for the rest of each period.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, _quotas(own, cgroups))]))


def _quotas(own: Path, cgroups: Path) -> Iterator[float]:
    """Processors' worth of time that the cgroup and those above it may use, where that is limited."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for path in (PurePath(line.removeprefix("0::/")) for line in lines if line.startswith("0::/")):
        for folder in (path, *path.parents):
            try:
                quota, period = (cgroups / folder / "cpu.max").read_text().split()
            except (OSError, ValueError):
                continue
            if quota != "max":
                yield int(quota) / int(period)
