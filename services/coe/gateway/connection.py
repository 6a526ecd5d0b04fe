"""Time limits on HTTP connections that uvicorn lacks: slow request heads, unread responses, and age."""

import asyncio
import random
from typing import Any

from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

# The same limit as for a body.
HEAD_S = 30.0
# A connected client that reads nothing sends no signal; without a limit its response would stay buffered forever.
UNREAD_S = 60.0
# Jitter, as a fraction of the maximum age: clients that connected together should not all reconnect together.
SPREAD = 0.1


class Connection(H11Protocol):
    """A connection that is closed

    - if a request's head is not complete within `HEAD_S` of the connection opening or of the head's first bytes,
    - if the client leaves sent data unread for `UNREAD_S`,
    - after a response, once the connection is about `max_age_s` old (0: no limit),
    - after the response to a request that states its length in two ways.
    """

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _old_at = float("inf")

    def __init__(self, *args: Any, max_age_s: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if max_age_s:
            self._old_at = self.loop.time() + max_age_s * random.uniform(1 - SPREAD, 1 + SPREAD)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's signature
        super().connection_made(transport)
        self._watch()

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is None or self.cycle.response_started or CLOSE_HEADER in self.headers:
            return
        if self.loop.time() >= self._old_at or self._has_two_lengths():
            # Makes uvicorn close the connection as if the client had asked it to.
            self.headers.append(CLOSE_HEADER)

    def _has_two_lengths(self) -> bool:
        """A proxy that used the other length would take what follows for the rest of the body (RFC 9112, 6.1)."""
        return {b"content-length", b"transfer-encoding"} <= {name for name, _ in self.headers}

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
        """Starts the head's timer. Further data does not extend it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
