"""The JVM's archive of the broker's classes: with it a start costs half the processor time.

Made once, by a broker that is started and stopped for it. A JVM that the archive was not made by ignores it.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from coe.local.kafka import artifacts
from coe.local.kafka.server import KafkaServer
from coe.platform.errors import CoEError

# Writing the archive takes the JVM some seconds after the broker's own end.
_GRACE_S = 90.0


async def make() -> Path:
    """The archive's path; made first when it is not there."""
    archive = artifacts.class_archive()
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            dumped = Path(scratch) / archive.name
            options = [f"-XX:ArchiveClassesAtExit={dumped}"]
            async with KafkaServer(Path(scratch), java_options=options, grace_s=_GRACE_S):
                pass
            # Not every JVM can: then the broker starts as it always did.
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
