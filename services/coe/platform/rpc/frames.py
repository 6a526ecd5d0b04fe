"""Length-prefixed messages over a socket, for calls between processes of a host that are too frequent for HTTP/2."""

import asyncio
from collections.abc import Callable
from typing import cast

from coe.platform.rpc.options import MAX_MESSAGE_BYTES

_LENGTH = 4


class Frames(asyncio.Protocol):
    """Calls `on_frame` with each complete frame, and `on_end` once when the connection is closed.

    `connected` may reject a peer by returning False. A frame longer than MAX_MESSAGE_BYTES closes the connection.
    """

    def __init__(
        self,
        on_frame: Callable[[bytes], None],
        on_end: Callable[[], None],
        connected: Callable[[asyncio.Transport], bool] = lambda transport: True,
    ) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._connected = connected
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        # Posted frames, held until the next `send` or the end of this event-loop iteration.
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if not self._connected(self._transport):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_end()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        start = 0
        while len(data) - start >= _LENGTH:
            length = int.from_bytes(data[start : start + _LENGTH], "little")
            if length > MAX_MESSAGE_BYTES:
                self.close()
                return
            end = start + _LENGTH + length
            if end > len(data):
                break
            self._on_frame(data[start + _LENGTH : end])
            start = end
        self._rest = data[start:]

    def send(self, payload: bytes) -> None:
        """Sends a frame. Does nothing once the connection is closed, which `on_end` has reported."""
        if self._transport is not None:
            self._transport.write(self._waiting + len(payload).to_bytes(_LENGTH, "little") + payload)
            self._waiting = b""

    def post(self, payload: bytes) -> None:
        """Like `send`, but batches the frames of an event-loop iteration, so that the peer wakes up only once."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting += len(payload).to_bytes(_LENGTH, "little") + payload

    def _flush(self) -> None:
        if self._transport is not None and self._waiting:
            self._transport.write(self._waiting)
        self._waiting = b""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
