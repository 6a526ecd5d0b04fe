"""Reads an HTTP request: its body, within size and time limits, and its timeout header."""

import asyncio
import math
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from coe.gateway.refusals import invalid
from coe.platform.errors import Cancelled, InvalidPrompt, PromptTooLarge

TIMEOUT = "x-coe-timeout-s"
# Time limit for receiving a body, so that a slow sender cannot hold its connection.
_BODY_S = 30.0
Form = TypeVar("Form", bound=BaseModel)


async def parse(request: Request, form: type[Form], max_prompt_bytes: int) -> Form:
    """Reads and validates the request's body, up to a size limit.

    Raises PromptTooLarge, InvalidPrompt with the field's name, Cancelled, or HTTPException.
    """
    if (coding := request.headers.get("content-encoding", "").lower()) not in ("", "identity"):
        raise HTTPException(415, f"content-encoding {coding} is not supported", {"accept-encoding": "identity"})
    try:
        async with asyncio.timeout(_BODY_S):
            # JSON escapes can take six bytes per byte of text. Admission checks the size of the text itself.
            body = await _read(request, 6 * max_prompt_bytes)
    except ClientDisconnect:
        raise Cancelled("the client disconnected") from None
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {_BODY_S:.0f} s") from None
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise PromptTooLarge("the request body is too large", limit=limit)
    return bytes(body)


def asked_s(request: Request) -> float | None:
    """The request's timeout in seconds, or None if it has none. Raises InvalidPrompt."""
    text = request.headers.get(TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidPrompt(f"{TIMEOUT}: must be a number of seconds", param=TIMEOUT)
    return seconds
