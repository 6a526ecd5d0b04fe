"""Leases over a unix socket: the same calls as over gRPC, at a fraction of the cost, for workers on this host.

An empty gRPC call costs the server 170 to 450 us of CPU in Python (ADR 7). Here a call is one small message each way,
and an expert that is in HBM is leased within the callback that read the request.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

from google.protobuf.message import DecodeError
from opentelemetry.trace import Span, SpanKind

from coe._proto import memory_tier_manager_pb2 as pb
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager.calls import Calls
from coe.memory_tier_manager.runtime import Answer, Runtime
from coe.platform import logs
from coe.platform.errors import CapacityExceeded, CoEError
from coe.platform.rpc.frames import Frames
from coe.platform.telemetry import names, spans, w3c

_log = logs.get(__name__)
# The most unanswered calls per connection.
MAX_CALLS = 4096
_METHODS = {"acquire": "coe.v1.MemoryTierManager/Acquire", "prefetch": "coe.v1.MemoryTierManager/Prefetch"}


class LeaseSocket:
    """Listens at `path`, in the arena's directory: a process that can map one can reach the other. Connections from
    other users (except root) are refused."""

    def __init__(self, path: Path, calls: Calls, runtime: Runtime) -> None:
        self._path = path
        self._calls = calls
        self._runtime = runtime
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        def connect() -> asyncio.Protocol:
            connection = _Connection(self._calls, self._runtime, self._connections.discard)
            self._connections.add(connection)
            return connection.frames

        # Left behind by a manager that was killed. It can't be in use: arena and socket have a single owner.
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(connect, self._path)
        self._path.chmod(0o600)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.frames.close()


class _Connection:
    def __init__(self, calls: Calls, runtime: Runtime, on_end: Callable[["_Connection"], None]) -> None:
        self.frames = Frames(self._on_frame, self._on_end, _same_user)
        self._calls = calls
        self._runtime = runtime
        self._forget = on_end
        # By call number: the request, or the task that first looks up the expert on disk.
        self._pending: dict[int, ev.Acquire | ev.Prefetch | asyncio.Task[None]] = {}

    def _on_frame(self, frame: bytes) -> None:
        try:
            call = pb.LeaseCall.FromString(frame)
        except DecodeError:
            _log.warning("closing a lease-socket connection: received a frame that is not a LeaseCall")
            self.frames.close()
            return
        what = call.WhichOneof("what")
        if what == "release":
            self._runtime.post(self._calls.release(call.release))
        elif what == "cancel":
            self._take_back(call.cancel)
        elif what is not None:
            self._begin(call, what)

    def _begin(self, call: pb.LeaseCall, what: str) -> None:
        span = _span(call.traceparent, _METHODS[what])
        number = call.call
        if len(self._pending) >= MAX_CALLS:
            self._answer(number, CapacityExceeded(f"{MAX_CALLS} calls on this connection are already waiting"), span)
            return
        if number in self._pending:
            _log.warning("closing a lease-socket connection: received a call with the number of a pending one")
            self.frames.close()
            return
        event = (
            self._calls.acquire_known(call.acquire, call.timeout_s or None)
            if what == "acquire"
            else self._calls.prefetch_known(call.prefetch)
        )
        if event is not None:
            self._ask(number, event, span)
        else:
            self._pending[number] = asyncio.create_task(self._look_and_ask(call, what, span))

    async def _look_and_ask(self, call: pb.LeaseCall, what: str, span: Span | None) -> None:
        try:
            event = (
                await self._calls.acquire(call.acquire, call.timeout_s or None)
                if what == "acquire"
                else await self._calls.prefetch(call.prefetch)
            )
        except CoEError as error:
            del self._pending[call.call]
            self._answer(call.call, error, span)
            return
        self._ask(call.call, event, span)

    def _ask(self, number: int, event: ev.Acquire | ev.Prefetch, span: Span | None) -> None:
        def answer(result: Answer | CoEError) -> None:
            del self._pending[number]
            self._answer(number, result, span)

        self._pending[number] = event
        self._runtime.begin(event, answer)

    def _answer(self, number: int, result: Answer | CoEError, span: Span | None) -> None:
        match result:
            case fx.Grant():
                message = pb.LeaseAnswer(call=number, acquired=self._calls.acquired(result))
            case fx.Prefetched():
                message = pb.LeaseAnswer(call=number, prefetched=self._calls.prefetched(result))
            case CoEError():
                message = pb.LeaseAnswer(call=number, error=result.to_proto())
            case _:
                raise TypeError(f"not an answer to a call on the lease socket: {result!r}")
        if span is not None:
            if isinstance(result, CoEError):
                span.set_attribute(names.ERROR_TYPE, result.code)
            span.end()
        self.frames.send(message.SerializeToString())

    def _take_back(self, number: int) -> None:
        asked = self._pending.pop(number, None)
        if isinstance(asked, asyncio.Task):
            asked.cancel()
        elif asked is not None:
            self._runtime.take_back(asked)

    def _on_end(self) -> None:
        for number in list(self._pending):
            self._take_back(number)
        self._forget(self)


def _span(traceparent: str, method: str) -> Span | None:
    """The call's span; None if it has no trace context, which only sampled traces send."""
    if not traceparent:
        return None
    parent = w3c.parse(lambda name: traceparent if name == w3c.TRACEPARENT else None)
    return spans.start(method, SpanKind.SERVER, parent, lambda: {names.RPC_SYSTEM: "coe", names.RPC_METHOD: method})


def _same_user(transport: asyncio.Transport) -> bool:
    peer = cast("socket.socket", transport.get_extra_info("socket"))
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid in (0, os.geteuid()))
