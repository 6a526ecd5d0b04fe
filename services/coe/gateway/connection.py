"""uvicorn's connections, which it would leave open for as long as a client takes over the head of a request, or reads
nothing of the answer.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# As long as a body may take.
HEAD_S = 30.0
# Nothing is heard of a client that is there and reads nothing: its answer would be kept for ever.
UNREAD_S = 60.0


class Connection(H11Protocol):
    """Closed when no request begins within `HEAD_S` after it was opened, or after more came of the next one's head; and
    when what was sent is not taken for `UNREAD_S`."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()
        self._taken()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def _taken(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

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
