"""Identifies the PID namespace, within which process ids are comparable.

A container has its own namespace unless configured otherwise. Outside of it, its process ids belong to other processes
or to none.
"""

from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def pid_space() -> str:
    """An identifier of the host's boot and PID namespace; equal ids mean comparable pids. Empty if /proc lacks it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""
