"""Runs uvicorn in the gateway's event loop, without its signal handlers and log configuration."""

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

# Longer than clients and load balancers keep idle connections: the server must not be the first to close one.
_KEEP_ALIVE_S = 75
# Connections in addition to those of running prompts: idle ones, and other requests.
_MORE_CONNECTIONS = 1000


class HttpServer(uvicorn.Server):
    """`run_until_cancelled` serves; once it is cancelled, requests in progress get `grace_s` seconds to finish."""

    def __init__(
        self, app: Starlette, settings: GatewaySettings, grace_s: float = 10.0, max_connection_age_s: float = 0.0
    ) -> None:
        """Uses TLS according to COE_GATEWAY_HTTP_TLS. Raises ArtifactError if its files cannot be used."""
        mode, files = settings.http_tls, TlsSettings()
        tls = None if mode == "off" else files.lasting(partial(files.server_context, mutual=mode == "mutual"))
        config = uvicorn.Config(
            _cut_in_peace(app),
            http=partial(Connection, max_age_s=max_connection_age_s),  # type: ignore[arg-type]  # uvicorn only calls it
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
        """Does nothing: the service harness handles signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises Unavailable if the port is taken; uvicorn would exit the process instead."""
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
    """Suppresses the CancelledError of requests cut off after the grace period; uvicorn would log a traceback each."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return serve
