"""A prompt's events as server-sent events of chat-completion chunks."""

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from coe.client.events import Completed, Text
from coe.gateway.openai import chunk, usage
from coe.gateway.reading import Reading
from coe.gateway.refusals import error_body
from coe.gateway.tools import streamed
from coe.platform.errors import CoEError

# Proxies neither gather nor keep what is sent.
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
# Proxies cut connections on which nothing happens, many after a minute.
_QUIET_S = 15.0
_WAITING = ": waiting\n\n"


class EventStream(StreamingResponse):
    """Closes the answer that `body` is of, also when the client left before the first of it was sent."""

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


async def stream(
    answer: Reading, request_id: str, model: str, why: dict[str, Any], with_usage: bool, quiet_s: float = _QUIET_S
) -> AsyncGenerator[str, None]:
    """The first chunk with `why`; a comment whenever nothing came for `quiet_s`.

    A restarted prompt can't take text back: what was not sent yet follows.
    """
    created, sent, text, attempt = int(time.time()), "", "", 0
    yield _sse(chunk(request_id, created, model, {"role": "assistant", "content": ""}, None) | why)
    try:
        while not isinstance(event := await answer.next(quiet_s), Completed):
            if event is None:
                yield _WAITING
            elif isinstance(event, Text):
                text = event.text if event.attempt > attempt else text + event.text
                attempt = event.attempt
                if text.startswith(sent) and len(text) > len(sent):
                    yield _sse(chunk(request_id, created, model, {"content": text[len(sent) :]}, None))
                    sent = text
    except CoEError as error:
        yield _sse(error_body(error))
        return
    ended = event.result.completion
    if ended.tool_calls:
        yield _sse(chunk(request_id, created, model, {"tool_calls": streamed(ended.tool_calls)}, None))
    yield _sse(chunk(request_id, created, model, {}, ended.finish_reason))
    if with_usage:
        last = chunk(request_id, created, model, {}, None) | {"choices": []}
        yield _sse(last | {"usage": usage(event.result.usage)})
    yield "data: [DONE]\n\n"


def _sse(value: dict[str, Any]) -> str:
    # In ASCII: some clients take U+2028 or U+0085 in a text for the end of a line.
    return f"data: {json.dumps(value)}\n\n"
