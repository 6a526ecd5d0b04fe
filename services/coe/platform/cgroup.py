"""Reads this process's cgroup v2 limits, such as those of a container or a systemd unit."""

from collections.abc import Iterator
from pathlib import Path, PurePath

OWN, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def limits(name: str, own: Path = OWN, root: Path = ROOT) -> Iterator[str]:
    """Yields the raw values of a limit, such as `memory.max`, from the process's group up to the root.

    The smallest applies. Yields nothing without cgroup v2.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for path in (PurePath(line.removeprefix("0::/")) for line in lines if line.startswith("0::/")):
        for folder in (path, *path.parents):
            try:
                yield (root / folder / name).read_text().strip()
            except OSError:
                continue
