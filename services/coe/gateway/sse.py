"""A prompt's events as server-sent events of chat-completion chunks."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from coe.client.events import Completed, Text
from coe.gateway.head import Events, raise_error, with_pauses
from coe.gateway.openai import chunk, usage
from coe.gateway.refusals import error_body
from coe.platform.errors import CoEError

# Proxies neither gather nor keep what is sent.
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
# Proxies cut connections on which nothing happens, many after a minute.
_QUIET_S = 15.0
_WAITING = ": waiting\n\n"


async def stream(
    events: Events, request_id: str, model: str, why: dict[str, Any], with_usage: bool, quiet_s: float = _QUIET_S
) -> AsyncGenerator[str, None]:
    """The first chunk with `why`; a comment whenever nothing came for `quiet_s`.

    A restarted prompt can't take text back: what was not sent yet follows.
    """
    created, sent, text, attempt = int(time.time()), "", "", 0
    yield _sse(chunk(request_id, created, model, {"role": "assistant", "content": ""}, None) | why)
    async with aclosing(with_pauses(events, quiet_s)) as coming:
        try:
            async for event in coming:
                if event is None:
                    yield _WAITING
                elif isinstance(event, Text):
                    text = event.text if event.attempt > attempt else text + event.text
                    attempt = event.attempt
                    if text.startswith(sent) and len(text) > len(sent):
                        yield _sse(chunk(request_id, created, model, {"content": text[len(sent) :]}, None))
                        sent = text
                elif isinstance(event, Completed):
                    raise_error(event)
                    finish = event.result.completion.finish_reason
                    yield _sse(chunk(request_id, created, model, {}, finish))
                    if with_usage:
                        last = chunk(request_id, created, model, {}, None) | {"choices": []}
                        yield _sse(last | {"usage": usage(event.result.usage)})
        except CoEError as error:
            yield _sse(error_body(error))
            return
    yield "data: [DONE]\n\n"


def _sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
