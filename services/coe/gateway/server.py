"""uvicorn inside the gateway's own event loop and life: it neither takes signals nor configures logs."""

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette


class HttpServer(uvicorn.Server):
    """`run_until_cancelled` serves; when it is cancelled, answers under way may finish within the grace time."""

    def __init__(self, app: Starlette, host: str, port: int, *, grace_s: int = 10) -> None:
        config = uvicorn.Config(
            app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=grace_s
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the service's harness."""
        yield

    async def run_until_cancelled(self) -> None:
        serving = asyncio.create_task(self.serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.should_exit = True
            await serving
            raise
