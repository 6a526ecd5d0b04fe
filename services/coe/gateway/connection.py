"""uvicorn's connections, which it would leave open for as long as a client takes over the head of a request, reads
nothing of the answer, or keeps asking.
"""

import asyncio
import random
from typing import Any

from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

# As long as a body may take.
HEAD_S = 30.0
# Nothing is heard of a client that is there and reads nothing: its answer would be kept for ever.
UNREAD_S = 60.0
# A part of the age, more or less: who connected at once need not come back at once.
SPREAD = 0.1


class Connection(H11Protocol):
    """Closed when no request begins within `HEAD_S` after it was opened, or after more came of the next one's head;
    when what was sent is not taken for `UNREAD_S`; behind an answer once it is `max_age_s` old, 0: never; and behind
    the answer to a request that tells its length in two ways.
    """

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _old_at = float("inf")

    def __init__(self, *args: Any, max_age_s: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if max_age_s:
            self._old_at = self.loop.time() + max_age_s * random.uniform(1 - SPREAD, 1 + SPREAD)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is None or self.cycle.response_started or CLOSE_HEADER in self.headers:
            return
        if self.loop.time() >= self._old_at or self._has_two_lengths():
            # As if the client had asked for it, which uvicorn does.
            self.headers.append(CLOSE_HEADER)

    def _has_two_lengths(self) -> bool:
        """A proxy that took the other one takes what follows for the rest of the body (RFC 9112, 6.1)."""
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
        """More data gives no more time."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
