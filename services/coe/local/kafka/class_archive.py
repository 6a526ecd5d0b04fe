"""Makes the JVM's class-data archive for the broker, which halves the CPU time of a start.

It is made once, by a broker that is started and stopped for the purpose. A different JVM ignores it.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from coe.local.kafka import artifacts
from coe.local.kafka.server import KafkaServer
from coe.platform.errors import CoEError

# The JVM takes some seconds to write the archive after the broker has shut down.
_GRACE_S = 90.0


async def make() -> Path:
    """Returns the path of the archive, after making it if it is missing."""
    archive = artifacts.class_archive()
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            dumped = Path(scratch) / archive.name
            options = [f"-XX:ArchiveClassesAtExit={dumped}"]
            async with KafkaServer(Path(scratch), java_options=options, grace_s=_GRACE_S):
                pass
            # Not every JVM can make one; the broker then starts without it.
            if dumped.exists():
                dumped.rename(archive)
    return archive


if __name__ == "__main__":
    state = "there" if artifacts.is_fetched() else "fetching with Maven"
    print(f"Kafka {artifacts.version()}: {state}", flush=True)
    try:
        artifacts.fetch()
        if not artifacts.class_archive().exists():
            print("Kafka: archiving its classes, for quick starts", flush=True)
        asyncio.run(make())
    except CoEError as error:
        sys.exit(f"coe: {error.message}")
