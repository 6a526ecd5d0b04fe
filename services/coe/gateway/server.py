"""uvicorn inside the gateway's own event loop and life: it neither takes signals nor configures logs."""

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from coe.gateway.connection import Connection
from coe.gateway.settings import GatewaySettings
from coe.platform.errors import Unavailable
from coe.platform.tls import TlsSettings

# Longer than clients and load balancers keep a connection that idles: the one who closes it first must not be us.
_KEEP_ALIVE_S = 75
# Connections beside those of prompts that are followed: they idle, or ask for something else.
_MORE_CONNECTIONS = 1000


class HttpServer(uvicorn.Server):
    """`run_until_cancelled` serves; when it is cancelled, answers under way may finish within `grace_s`."""

    def __init__(
        self, app: Starlette, settings: GatewaySettings, grace_s: float = 10.0, max_connection_age_s: float = 0.0
    ) -> None:
        """Encrypted when COE_GATEWAY_HTTP_TLS says so: raises ArtifactError when its files can't be used."""
        mode, files = settings.http_tls, TlsSettings()
        tls = None if mode == "off" else files.lasting(partial(files.server_context, mutual=mode == "mutual"))
        config = uvicorn.Config(
            _cut_in_peace(app),
            http=partial(Connection, max_age_s=max_connection_age_s),  # type: ignore[arg-type]  # it is called, no more
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=math.ceil(grace_s),
            timeout_keep_alive=_KEEP_ALIVE_S,
            limit_concurrency=settings.max_streams + _MORE_CONNECTIONS,
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the service's harness."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises Unavailable when the port is taken, where uvicorn would end the process in the middle of its work."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise Unavailable(f"can't listen on {self.config.host}:{self.config.port}") from None

    async def run_until_cancelled(self) -> None:
        serving = asyncio.create_task(self.serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.should_exit = True
            await serving
            raise


def _cut_in_peace(app: ASGIApp) -> ASGIApp:
    """Calls that uvicorn cancels, at the end of the grace, are no failures: it would log each with its traceback."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return serve
