"""What the run cost: CPU seconds of every process of the stack, and how much their memory grew."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from coe.local.stackfile import StackInfo


@dataclass(frozen=True)
class Use:
    """Of one process at one moment: CPU seconds since it started, resident bytes."""

    cpu_s: float
    memory_bytes: int


def measure(stack: StackInfo) -> dict[str, Use]:
    """Every child of the stack's process by name, broker and Redis included. Empty for servers of another machine."""
    if not stack.services:
        return {}
    names = {service.pid: name for name, service in stack.services.items()}
    try:
        children = psutil.Process(stack.pid).children()
    except psutil.NoSuchProcess:
        return {}
    found = {}
    for child in children:
        try:
            times, memory = child.cpu_times(), child.memory_info().rss
            found[names.get(child.pid, child.name())] = Use(times.user + times.system, memory)
        except psutil.NoSuchProcess:
            continue
    return found


def difference(before: Mapping[str, Use], after: Mapping[str, Use], prompts: int) -> dict[str, dict[str, float]]:
    """Per process that lived throughout: CPU milliseconds a prompt, memory and its growth in MiB."""
    return {
        name: {
            "cpu_ms_per_prompt": (after[name].cpu_s - before[name].cpu_s) * 1000 / max(1, prompts),
            "memory_mib": after[name].memory_bytes / 2**20,
            "grown_mib": (after[name].memory_bytes - before[name].memory_bytes) / 2**20,
        }
        for name in before.keys() & after.keys()
    }
