"""The worker's end of the tier manager's lease socket: acquire, release and prefetch as frames."""

import asyncio
import itertools

from google.protobuf.message import DecodeError
from opentelemetry.trace import SpanKind

from coe._proto import memory_tier_manager_pb2 as pb
from coe.platform.errors import Unavailable, from_proto
from coe.platform.rpc.frames import Frames
from coe.platform.telemetry import names, spans, w3c

Answer = pb.AcquireResponse | pb.PrefetchResponse


class LeaseSocket:
    """One connection. Calls raise CoEError; Unavailable if the connection breaks."""

    def __init__(self) -> None:
        self._frames = Frames(self._on_frame, self._on_end)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._worker_id = ""
        self.open = False

    @classmethod
    async def connect(cls, path: str) -> "LeaseSocket":
        """Raises OSError if this process can't reach the socket; it can't reach the arena then either."""
        connection = cls()
        await asyncio.get_running_loop().create_unix_connection(lambda: connection._frames, path)
        connection.open = True
        return connection

    async def acquire(self, request: pb.AcquireRequest, timeout_s: float) -> pb.AcquireResponse:
        self._worker_id = request.worker_id
        call = pb.LeaseCall(call=next(self._numbers), acquire=request, timeout_s=timeout_s)
        answer = await self._ask(call, "coe.v1.MemoryTierManager/Acquire")
        assert isinstance(answer, pb.AcquireResponse)
        return answer

    async def prefetch(self, request: pb.PrefetchRequest) -> None:
        await self._ask(pb.LeaseCall(call=next(self._numbers), prefetch=request), "coe.v1.MemoryTierManager/Prefetch")

    def release(self, request: pb.ReleaseRequest) -> None:
        self._frames.post(pb.LeaseCall(call=next(self._numbers), release=request).SerializeToString())

    def close(self) -> None:
        self._frames.close()

    async def _ask(self, call: pb.LeaseCall, method: str) -> Answer:
        parent = spans.current()
        if not parent.trace_flags.sampled:
            return await self._exchange(call)
        with spans.start(
            method, SpanKind.CLIENT, parent, lambda: {names.RPC_SYSTEM: "coe", names.RPC_METHOD: method}
        ) as span:
            call.traceparent = dict(w3c.headers(span.get_span_context()))[w3c.TRACEPARENT]
            return await self._exchange(call)

    async def _exchange(self, call: pb.LeaseCall) -> Answer:
        if not self.open:
            raise Unavailable("the lease socket is closed")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[call.call] = answer
        self._frames.send(call.SerializeToString())
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._give_back(answer.result())
            else:
                self._frames.send(pb.LeaseCall(call=next(self._numbers), cancel=call.call).SerializeToString())
            raise
        finally:
            self._waiting.pop(call.call, None)

    def _on_frame(self, frame: bytes) -> None:
        try:
            message = pb.LeaseAnswer.FromString(frame)
        except DecodeError:
            self.close()
            return
        answer = self._waiting.get(message.call)
        what = message.WhichOneof("what")
        if answer is None or answer.done():
            if what == "acquired":
                self._give_back(message.acquired)
            return
        if what == "acquired":
            answer.set_result(message.acquired)
        elif what == "prefetched":
            answer.set_result(message.prefetched)
        else:
            answer.set_exception(from_proto(message.error))

    def _give_back(self, answer: Answer) -> None:
        """Releases a lease whose caller left while the answer was on its way."""
        if isinstance(answer, pb.AcquireResponse):
            self.release(pb.ReleaseRequest(worker_id=self._worker_id, lease_id=answer.lease.lease_id))

    def _on_end(self) -> None:
        self.open = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable("the memory-tier manager's lease socket broke"))
