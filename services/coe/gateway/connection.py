"""uvicorn's connections, which it would leave open for as long as a client takes over the head of a request."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# As long as a body may take.
HEAD_S = 30.0


class Connection(H11Protocol):
    """Closed when no request begins within `HEAD_S` after it was opened, or after more came of the next one's head."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()

    def _watch(self) -> None:
        """More data gives no more time."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
