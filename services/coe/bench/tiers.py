"""A separate memory-tier manager for benchmarks, hosting copies of the packaged expert."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coe.experts.catalogue import Catalogue
from coe.local.packaged import host
from coe.platform.errors import TierLoadError

START_S = 60.0


def replicas(home: Path, count: int) -> list[str]:
    """Creates copies of the packaged expert and returns their ids."""
    return host(Catalogue(home / "experts"), count)


@contextmanager
def manager(
    home: Path, *, hbm_bytes: int, link: float = 0.0, eviction: str = "lru", part_share: float = 0.0
) -> Iterator[str]:
    """Yields its address. `link`: bytes per second into HBM; 0: unthrottled.

    Its tiers start empty, and its DDR has room for every expert.
    """
    ready = home / "tiers.ready"
    ready.unlink(missing_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COE_")}
    settings = {
        "COE_HOME": str(home),
        "COE_LOG_LEVEL": "ERROR",
        "COE_GRPC_READY_FILE": str(ready),
        "COE_PARENT_PID": str(os.getpid()),
        # No server listens there: publishing residency is not part of the measurement.
        "COE_REDIS_URL": "redis://127.0.0.1:1/0",
        "COE_TIERS_ARENA": f"coe-bench-{os.getpid()}",
        "COE_TIERS_HBM_BYTES": str(hbm_bytes),
        "COE_TIERS_DDR_BYTES": str(64 << 30),
        "COE_TIERS_LINK_BYTES_PER_S": str(link),
        "COE_TIERS_EVICTION": eviction,
        "COE_TIERS_PART_SHARE": str(part_share),
    }
    process = subprocess.Popen([sys.executable, "-P", "-m", "coe.memory_tier_manager.service"], env=kept | settings)
    try:
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TierLoadError("the memory-tier manager did not start")
            time.sleep(0.05)
        yield ready.read_text().strip()
    finally:
        process.terminate()
        process.wait(30)
