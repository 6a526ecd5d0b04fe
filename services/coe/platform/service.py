"""The life of a service process: logs, telemetry, gRPC with health and reflection, signals, orderly end.

`run(service)` is what each `service.py` calls. It
1. configures logging and telemetry under the service's name,
2. starts the gRPC server with health NOT_SERVING, then `service.start()`, then sets SERVING,
3. on SIGINT or SIGTERM, or when the parent dies: sets NOT_SERVING, `service.stop()`, ends the server with grace,
   flushes telemetry.
A background task of the service that fails ends the process with exit status 1 and one clear line.
"""

from collections.abc import Coroutine
from typing import Protocol

import grpc.aio


class Service(Protocol):
    """What a process does beside what every process does."""

    name: str

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds the servicers; returns their full names (`coe.v1.Router`) for health and reflection."""
        ...

    async def start(self) -> None:
        """Opens everything; returns when the service can serve."""
        ...

    def tasks(self) -> list[Coroutine[object, object, None]]:
        """Loops that run until the end: cancelled before `stop`. One that fails fails the process."""
        ...

    async def stop(self) -> None:
        """Finishes or hands back what is under way; closes everything."""
        ...
