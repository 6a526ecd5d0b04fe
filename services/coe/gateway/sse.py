"""Streams a prompt's events as server-sent events."""

import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from coe._proto import common_pb2, events_pb2
from coe.client.events import Completed, Text
from coe.gateway.reading import Reading
from coe.platform.errors import CoEError

# Keeps proxies from buffering or caching the stream.
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
# Proxies close idle connections, many after a minute.
_QUIET_S = 15.0
_WAITING = ": waiting\n\n"


class EventStream(StreamingResponse):
    """A streaming response that closes `answer` at its end, even if the client disconnected before the first event."""

    def __init__(self, body: AsyncGenerator[str, None], answer: Reading, headers: dict[str, str]) -> None:
        super().__init__(body, headers=headers | _HEADERS, media_type="text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._answer.error is not None:
                scope["state"]["error"] = self._answer.error
            await self._answer.aclose()


class Telling(Protocol):
    """Formats an answer, as it arrives, as a dialect's events."""

    def begun(self) -> Iterable[str]: ...

    def more(self, text: str, logprobs: Sequence[common_pb2.TokenLogprob]) -> Iterable[str]: ...

    def ended(self, result: events_pb2.PromptCompleted) -> Iterable[str]: ...

    def failed(self, error: CoEError) -> Iterable[str]: ...


class Sent:
    """Tracks what has been sent of an answer, so that after a restart of the prompt only the rest is sent."""

    def __init__(self) -> None:
        self._attempt = 0
        self._text, self._sent = "", ""
        self._logprobs: list[common_pb2.TokenLogprob] = []
        self._told = 0

    def more(self, came: Text) -> Text | None:
        """What to send now, or None. Text that deviates from what was already sent is never sent."""
        if came.attempt > self._attempt:
            self._attempt, self._text, self._logprobs = came.attempt, "", []
        self._text += came.text
        self._logprobs.extend(came.logprobs)
        if not self._text.startswith(self._sent):
            return None
        new = Text(self._text[len(self._sent) :], self._attempt, tuple(self._logprobs[self._told :]))
        self._sent, self._told = self._text, max(self._told, len(self._logprobs))
        return new if new.text or new.logprobs else None


async def stream(answer: Reading, telling: Telling, quiet_s: float = _QUIET_S) -> AsyncGenerator[str, None]:
    """The events of the stream, with a comment whenever nothing has arrived for `quiet_s` seconds."""
    sent = Sent()
    for line in telling.begun():
        yield line
    try:
        while not isinstance(happened := await answer.next(quiet_s), Completed):
            if happened is None:
                yield _WAITING
            elif isinstance(happened, Text) and (new := sent.more(happened)):
                for line in telling.more(new.text, new.logprobs):
                    yield line
    except CoEError as error:
        last = telling.failed(error)
    else:
        last = telling.ended(happened.result)
    for line in last:
        yield line


def event(value: dict[str, Any], name: str = "") -> str:
    # ASCII only: some clients treat U+2028 or U+0085 in the text as a line break.
    data = f"data: {json.dumps(value)}\n\n"
    return f"event: {name}\n{data}" if name else data
