"""The cost of a run: CPU seconds and memory growth of the generator and of every process of the stack."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from coe.local.stackfile import StackInfo

# The process that runs the load and, if it started the stack, supervises it.
GENERATOR = "load generator"


@dataclass(frozen=True)
class Use:
    """Resource use of a process at one moment: CPU seconds since its start, and resident bytes."""

    cpu_s: float
    memory_bytes: int


def processes(stack: StackInfo) -> dict[str, psutil.Process]:
    """Every child process of the stack by name, including broker and Redis. Empty for a stack elsewhere."""
    if not stack.services:
        return {}
    names = {service.pid: name for name, service in stack.services.items()}
    found = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(stack.pid).children():
            with suppress(psutil.NoSuchProcess):
                found[names.get(child.pid) or child.name()] = child
    return found


def measure(stack: StackInfo) -> dict[str, Use]:
    """Resource use of this process and of those of the stack. Empty for a stack elsewhere."""
    found = {}
    for name, process in processes(stack).items():
        with suppress(psutil.NoSuchProcess):
            found[name] = _use(process)
    return found and {GENERATOR: _use(psutil.Process()), **found}


def _use(process: psutil.Process) -> Use:
    times = process.cpu_times()
    return Use(times.user + times.system, process.memory_info().rss)


def difference(before: Mapping[str, Use], after: Mapping[str, Use], prompts: int) -> dict[str, dict[str, float]]:
    """For each process that lived throughout: CPU milliseconds per prompt, memory and its growth in MiB."""
    return {
        name: {
            "cpu_ms_per_prompt": (after[name].cpu_s - before[name].cpu_s) * 1000 / max(1, prompts),
            "memory_mib": after[name].memory_bytes / 2**20,
            "grown_mib": (after[name].memory_bytes - before[name].memory_bytes) / 2**20,
        }
        for name in before.keys() & after.keys()
    }
