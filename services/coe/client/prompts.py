"""Submits prompts to Kafka and follows their answers. One reader of the topics serves every stream of the process."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Self
from uuid import uuid4

from google.protobuf.message import Message

from coe._proto import events_pb2
from coe.client.ended import Ended
from coe.client.events import Completed, Event
from coe.client.stream import PromptStream
from coe.platform import topics
from coe.platform.bus.api import Bus, Outgoing, Record
from coe.platform.bus.codec import decode, is_json
from coe.platform.digest import DIGEST_CHARS, DIGEST_HEADER, digest_header, digest_of
from coe.platform.errors import (
    Cancelled,
    CapacityExceeded,
    CoEError,
    DeadlineExceeded,
    RequestIdReused,
    Unavailable,
    UndecodableMessage,
    from_proto,
)
from coe.platform.prompts import MAX_NAME_CHARS

Publish = Callable[[events_pb2.PromptSubmitted], Awaitable[None]]
# A broker that is away must not hold up who gives up because of it.
_CANCEL_S = 2.0
# That the broker takes no prompt is told so long before the deadline: at the deadline itself callers over gRPC hang up.
_TELL_S = 1.0
# A broker that has had a prompt for less may be well: who gives up sooner is told of that deadline alone.
_SILENT_S = 1.0
# Of one id, while their ends are remembered.
_MOST_RUNS = 100
FOLLOWED = (topics.ASSIGNMENTS, topics.TOKENS, topics.COMPLETIONS)


@dataclass(eq=False)
class Follower:
    """A follower of the prompt with this digest: its stream so far, and an event that is set when there is more."""

    digest: str
    stream: PromptStream
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class PromptClient:
    """Use as a context manager around a started bus. `max_streams` bounds the prompts followed at once.

    `publish` sends a prompt to its topic; by default through the bus. `ended`: a prompt whose terminal event is
    remembered there gets that event again instead of being published, unless it was abandoned (`cancelled`,
    `deadline_exceeded`) or its error is retryable: then it runs again, as `ID~2` on the topics.
    """

    def __init__(
        self, bus: Bus, *, max_streams: int = 10_000, publish: Publish | None = None, ended: Ended | None = None
    ) -> None:
        self._bus = bus
        self._ended = ended
        self._publish = publish
        self._max_streams = max_streams
        # Who follows a prompt, by its id.
        self._streams: dict[str, list[Follower]] = {}
        self._following = 0
        # Set while nobody follows.
        self._left = asyncio.Event()
        self._left.set()
        self._exit = AsyncExitStack()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        records = await self._exit.enter_async_context(self._bus.tail(FOLLOWED))
        self._reader = asyncio.create_task(self._read(records))
        self._exit.push_async_callback(self._end_reading, self._reader)
        self._exit.push_async_callback(self._wait_for_leavers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _wait_for_leavers(self) -> None:
        """Calls that were cut off a moment ago cancel their prompts yet, for which they need the bus."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_S):
                await self._left.wait()

    async def _end_reading(self, reader: "asyncio.Task[None]") -> None:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        """Publishes the prompt (an empty request id is filled in) and yields its events, the last one `Completed`.

        Where it names no deadline, the end of `timeout_s` is published as one. Several may follow one id, which is one
        prompt (the router drops the others): who comes later has the route and the text so far, then what comes. It is
        cancelled when the last of them goes away: who stops reading early closes it (`contextlib.aclosing`).

        Raises DeadlineExceeded when no terminal event came within `timeout_s`, Unavailable when the broker did not even
        take the prompt or the topics can't be read any more, PromptTooLarge when no topic takes so large a message,
        CapacityExceeded when too many prompts are followed, RequestIdReused when the id is another prompt's. Where the
        answer alone tells that, it is its end.
        """
        prompt.request_id = prompt.request_id or uuid4().hex
        digest = digest_of(prompt)
        name, known = self._run_of(prompt.request_id, digest)
        if known is not None:
            for event in _events(known):
                yield _named(event, prompt.request_id)
            return
        follower = self._open(name, digest)
        stream = follower.stream
        deadline = asyncio.get_running_loop().time() + timeout_s
        overdue = False
        try:
            try:
                limit = deadline - min(_TELL_S, timeout_s / 10)
                await _within(limit, self._put(_to_publish(prompt, name, timeout_s), digest))
            except TimeoutError:
                overdue = True
                if timeout_s < _SILENT_S:
                    message = f"the Kafka broker did not take the prompt within {timeout_s:.3f} s"
                    raise DeadlineExceeded(message, request_id=prompt.request_id) from None
                message = "the Kafka broker did not take the prompt in time: it does not answer"
                raise Unavailable(message, request_id=prompt.request_id) from None
            while True:
                while stream.pending:
                    yield _named(stream.pending.popleft(), prompt.request_id)
                if stream.done:
                    return
                if self._reader is None or self._reader.done():
                    raise Unavailable("the answer topics can no longer be read", request_id=prompt.request_id)
                await _within(deadline, follower.ready.wait())
                follower.ready.clear()
        except TimeoutError:
            message = f"no answer within {timeout_s:.1f} s"
            if not stream.routed:
                message += ": the prompt got no expert. The router is away or behind, or met its request id before"
            raise DeadlineExceeded(message, request_id=prompt.request_id) from None
        finally:
            try:
                last = self._leave(name, follower)
                # Of an overdue prompt its deadline says what a cancellation would, which nobody takes either.
                if last and not (stream.done or overdue):
                    await self._cancel(name, digest)
            finally:
                self._following -= 1
                if not self._following:
                    self._left.set()

    def _run_of(self, request_id: str, digest: str) -> tuple[str, bytes | None]:
        """The id under which the prompt runs, and its end where it has one.

        A prompt that was given up, or met what may pass, has no answer: whoever submits it again has it run anew. For
        everybody else that is another prompt: the router still drops the first id, and workers may still cancel it.

        Raises RequestIdReused.
        """
        name, number = request_id, 1
        while True:
            whose, end = self._end_of(name)
            if whose and whose != digest:
                raise _reused(request_id)
            number += 1
            following = f"{request_id}~{number}"
            if end is None or number > _MOST_RUNS or len(following) > MAX_NAME_CHARS or not _runs_anew(end):
                return name, end
            name = following

    def _end_of(self, name: str) -> tuple[str, bytes | None]:
        """The digest of the prompt, empty where none is known, and its terminal event."""
        noted = self._ended.get(name) if self._ended is not None else None
        return ("", None) if noted is None else (noted[:DIGEST_CHARS].decode().strip(), noted[DIGEST_CHARS:])

    def _note_end(self, name: str, digest: str, end: bytes) -> None:
        if self._ended is not None:
            self._ended.note(name, digest.encode().ljust(DIGEST_CHARS) + end)

    async def _put(self, prompt: events_pb2.PromptSubmitted, digest: str) -> None:
        if self._publish is not None:
            await self._publish(prompt)
        else:
            headers = ((DIGEST_HEADER, digest),)
            await self._bus.publisher.publish(Outgoing(topics.PROMPTS, prompt.request_id, prompt, headers))

    async def _cancel(self, request_id: str, digest: str) -> None:
        """Nobody reads the answer any more. Best effort: the prompt's deadline bounds what a lost message costs."""
        reason = "the client disconnected"
        end = events_pb2.PromptCompleted(request_id=request_id, error=Cancelled(reason).to_proto())
        self._note_end(request_id, digest, end.SerializeToString())
        cancelled = events_pb2.PromptCancelled(request_id=request_id, reason=reason)
        with suppress(CoEError, TimeoutError):
            async with asyncio.timeout(_CANCEL_S):
                await self._bus.publisher.post(Outgoing(topics.CANCELLATIONS, request_id, cancelled))

    def _open(self, request_id: str, digest: str) -> Follower:
        if self._following >= self._max_streams:
            raise CapacityExceeded("too many prompts are followed at once", max_streams=self._max_streams)
        running = next((one for one in self._streams.get(request_id, ()) if not one.stream.done), None)
        if running is not None and running.digest != digest:
            raise _reused(request_id)
        self._following += 1
        self._left.clear()
        follower = Follower(digest, PromptStream() if running is None else running.stream.joined())
        self._streams.setdefault(request_id, []).append(follower)
        return follower

    def _leave(self, request_id: str, follower: Follower) -> bool:
        """Whether nobody follows the prompt any more."""
        followers = self._streams[request_id]
        followers.remove(follower)
        if not followers:
            del self._streams[request_id]
        return not followers

    async def _read(self, records: AsyncIterator[Record]) -> None:
        try:
            async for record in records:
                self._dispatch(record)
        finally:
            for followers in self._streams.values():
                for follower in followers:
                    follower.ready.set()

    def _dispatch(self, record: Record) -> None:
        try:
            request_id, message, feed = _decode(record)
        except UndecodableMessage:
            # Not ours to judge: the worker that met the same bytes sends the terminal event.
            return
        whose = digest_header(record)
        if record.topic == topics.COMPLETIONS:
            self._note_end(request_id, whose, message.SerializeToString() if is_json(record) else record.value)
        for follower in self._streams.get(request_id, ()):
            if whose and whose != follower.digest:
                # The router dropped it: the other one came through another gateway, say.
                end = events_pb2.PromptCompleted(request_id=request_id, error=_reused(request_id).to_proto())
                follower.stream.on_completed(end)
            else:
                feed(follower.stream)
            follower.ready.set()


def _reused(name: str) -> RequestIdReused:
    return RequestIdReused("another prompt has this request id, or Idempotency-Key: take another", request_id=name)


def _events(completed: bytes) -> Iterable[Event]:
    """Of a prompt that has ended: its route where it had one, its text, its end."""
    stream = PromptStream()
    result = events_pb2.PromptCompleted.FromString(completed)
    if result.HasField("error"):
        result.error.message += " (so ended the first prompt of this request id: for another answer take another id)"
    stream.on_completed(result)
    return stream.pending


def _runs_anew(completed: bytes) -> bool:
    result = events_pb2.PromptCompleted.FromString(completed)
    if not result.HasField("error"):
        return False
    error = from_proto(result.error)
    return error.retryable or isinstance(error, Cancelled | DeadlineExceeded)


def _named(event: Event, request_id: str) -> Event:
    """As who submitted the prompt calls it."""
    if isinstance(event, Completed) and event.result.request_id != request_id:
        event.result.request_id = request_id
    return event


def _to_publish(prompt: events_pb2.PromptSubmitted, name: str, timeout_s: float) -> events_pb2.PromptSubmitted:
    """Under that id, with the times that are not set: when a client dies, the deadline is what ends its prompt."""
    if prompt.submitted_at_ms and prompt.deadline_ms and prompt.request_id == name:
        return prompt
    own = events_pb2.PromptSubmitted()
    own.CopyFrom(prompt)
    own.request_id = name
    now_ms = time.time_ns() // 1_000_000
    own.submitted_at_ms = prompt.submitted_at_ms or now_ms
    if math.isfinite(timeout_s):
        own.deadline_ms = prompt.deadline_ms or now_ms + round(timeout_s * 1000)
    return own


def _decode(record: Record) -> tuple[str, Message, Callable[[PromptStream], None]]:
    """Whose message it is, the message, and what it does to that prompt's stream."""
    if record.topic == topics.ASSIGNMENTS:
        assigned = decode(record, events_pb2.PromptAssigned)
        return assigned.prompt.request_id, assigned, lambda stream: stream.on_assigned(assigned)
    if record.topic == topics.TOKENS:
        chunk = decode(record, events_pb2.TokenChunk)
        return chunk.request_id, chunk, lambda stream: stream.on_chunk(chunk)
    result = decode(record, events_pb2.PromptCompleted)
    return result.request_id, result, lambda stream: stream.on_completed(result)


async def _within(deadline: float, work: Awaitable[object]) -> None:
    async with asyncio.timeout_at(deadline):
        await work
