"""What the kernel says processes and shared memory take: never our own counters."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

PERIOD_S = 0.2


def status(pid: int) -> dict[str, int]:
    """Bytes of VmHWM, RssAnon, RssShmem, RssFile, VmLck ... of /proc/PID/status."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}


def proportional(pid: int) -> dict[str, int]:
    """Bytes of Pss, Pss_Anon, Pss_Shmem ... of /proc/PID/smaps_rollup: what is shared counts for each by its part."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}


def shared_memory(name: str) -> int:
    """Bytes that the object /dev/shm/NAME really takes."""
    return Path("/dev/shm", name.lstrip("/")).stat().st_blocks * 512


class Watch:
    """The highest values of a process and of an arena while it is open. Process values are of `status`."""

    def __init__(self, pids: dict[str, int], arena: str) -> None:
        self._pids = pids
        self._arena = arena
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.highest: dict[str, dict[str, int]] = {name: {} for name in pids}
        self.arena_bytes = 0

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(PERIOD_S):
            self._look()

    def _look(self) -> None:
        for name, pid in self._pids.items():
            highest = self.highest[name]
            for key, value in status(pid).items():
                highest[key] = max(highest.get(key, 0), value)
        self.arena_bytes = max(self.arena_bytes, shared_memory(self._arena))
