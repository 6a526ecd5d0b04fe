"""What the control groups (version 2) of this process allow it: a container's limits, and a systemd unit's."""

from collections.abc import Iterator
from pathlib import Path, PurePath

OWN, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def limits(name: str, own: Path = OWN, root: Path = ROOT) -> Iterator[str]:
    """The limit of that name, `memory.max` say, of its group and of those above it, as it stands there; the smallest
    counts. None where there are no such groups.
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
