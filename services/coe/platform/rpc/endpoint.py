"""A process's gRPC server with health and reflection."""

import os
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coe.platform.errors import Unavailable
from coe.platform.rpc import options
from coe.platform.rpc.server import ServerInterceptor
from coe.platform.settings import GrpcSettings
from coe.platform.tls import TlsSettings

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NEVER = 2**31 - 1
# A service name for liveness probes: SERVING as long as the event loop runs, whatever the service is waiting for.
LIVENESS = "liveness"
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Endpoint:
    """Add servicers to `server`, then call `start` with their names. Health is NOT_SERVING until set otherwise."""

    def __init__(self, settings: GrpcSettings) -> None:
        self._settings = settings
        # Without "grpc.max_connection_age_grace_ms", so that running calls may take as long as they need.
        age = ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000) or _NEVER)
        self.server = grpc.aio.server(options=[*options.SERVER, age], interceptors=[ServerInterceptor()])
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []
        self.address = ""

    async def start(self, service_names: Sequence[str]) -> None:
        """Binds the address and writes it to the ready file, if any.

        Raises Unavailable if the port is taken, and ArtifactError if TLS files cannot be used.
        """
        self._names = ["", *service_names]
        await self.set_serving(False)
        await self._health.set(LIVENESS, _SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection.enable_server_reflection((*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server)
        wanted = f"{self._settings.host}:{self._settings.port}"
        try:
            port = self._bind(wanted)
        except RuntimeError as error:
            raise Unavailable(f"can't listen on {wanted}: {error}") from None
        self.address = f"{self._settings.host}:{port}"
        await self.server.start()
        if self._settings.ready_file is not None:
            _write(self._settings.ready_file, f"{self.address}\n")

    def _bind(self, wanted: str) -> int:
        mode = self._settings.tls
        if mode == "off":
            return self.server.add_insecure_port(wanted)
        return self.server.add_secure_port(wanted, TlsSettings().server_credentials(mutual=mode == "mutual"))

    async def set_serving(self, serving: bool) -> None:
        for name in self._names:
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self) -> None:
        await self.server.stop(self._settings.grace_s)


def _write(path: Path, text: str) -> None:
    """Writes the file atomically: a reader sees the whole text or no file."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)
