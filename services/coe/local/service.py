"""Runs a service of the stack as a child process."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coe.local.probe import serves
from coe.local.process import Child
from coe.local.readiness import accepts, until_ready
from coe.local.server import LocalServer
from coe.platform.errors import Unavailable
from coe.platform.rpc.client import tls_trouble
from coe.platform.tls_trouble import lasts


@dataclass(frozen=True)
class ServiceSpec:
    """What to run: `python -m coe.<package>.service` with this environment, listening on `port`."""

    name: str
    package: str
    port: int
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class ServiceProcess(LocalServer):
    """Ready when its gRPC health status is SERVING. After an exit it can be restarted on the same port and log."""

    def __init__(self, spec: ServiceSpec, logs: Path, *, start_timeout_s: float, grace_s: float) -> None:
        super().__init__()
        self.spec = spec
        self._log = logs / f"{spec.name}.log"
        self._start_timeout_s = start_timeout_s
        self._grace_s = grace_s

    async def start(self) -> None:
        env = {
            **self.spec.env,
            "COE_GRPC_HOST": "127.0.0.1",
            "COE_GRPC_PORT": str(self.spec.port),
            "PYTHONUNBUFFERED": "1",
        }
        # -P: modules in the current directory must not shadow those of libraries.
        command = [sys.executable, "-P", "-m", f"coe.{self.spec.package}.service"]
        self._child = Child(self.spec.name, command, log=self._log, env=env, grace_s=self._grace_s)
        self._child.start()
        await until_ready(self._child, self._serves, self._start_timeout_s)

    async def _serves(self) -> bool:
        """Raises Unavailable if a TLS error is permanent, as waiting would be in vain."""
        if await serves(self.spec.address):
            return True
        if await accepts("127.0.0.1", self.spec.port) and lasts(why := await tls_trouble(self.spec.address)):
            raise Unavailable(f"no TLS connection to {self.spec.name} at {self.spec.address}: {why}")
        return False
