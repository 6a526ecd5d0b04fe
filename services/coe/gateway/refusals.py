"""Errors in the form OpenAI clients expect: body, status, and whether to retry."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coe.platform.errors import CoEError, ContextExceeded, InternalError, InvalidPrompt

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Codes these clients know. On the first they shorten the prompt and retry. Our `invalid_prompt` is replaced because
# there it means refused by a policy, which evaluations count as an answer.
_KNOWN = {ContextExceeded.code: "context_length_exceeded", InvalidPrompt.code: "invalid_value"}
_CODES = {404: "not_found", 405: "method_not_allowed", 408: "request_timeout", 415: "unsupported_media_type"}


def error_body(error: CoEError, param: str | None = None) -> dict[str, Any]:
    return _body(error.message, code_of(error), error.http_status, param)


def code_of(error: CoEError) -> str:
    return _KNOWN.get(error.code, error.code)


def invalid(error: ValidationError) -> InvalidPrompt:
    """The first error in a request's body, with the field's name."""
    first = error.errors(include_url=False)[0]
    # For a field with several forms, the location also contains the form's tag (see dialects.given.form).
    parts = [part for part in map(str, first["loc"]) if not part.startswith("literal[")]
    if not (field := ".".join(parts)):
        return InvalidPrompt(_what(first))
    return InvalidPrompt(f"{field}: {_what(first)}", param=field)


def refuse(request: Request, error: Exception) -> Response:
    """The error as a response. Says explicitly whether to retry.

    By default OpenAI clients retry every 5xx, which would triple the refused load during an overload.
    """
    assert isinstance(error, CoEError)
    request.state.error = error.code
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retryable:
        headers["retry-after"] = "1"
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error, error.details.get("param")), error.http_status, headers)


def unserved(request: Request, error: Exception) -> Response:
    """The response for an unknown path or method, a body that is late, or one with a content encoding."""
    assert isinstance(error, HTTPException)
    request.state.error = code = _CODES.get(error.status_code, InvalidPrompt.code)
    body = _body(f"{request.method} {request.url.path}: {error.detail}", code, error.status_code)
    return JSONResponse(body, error.status_code, error.headers)


def failed(request: Request) -> Response:
    return refuse(request, InternalError("internal error"))


def _body(message: str, code: str, status: int, param: str | None = None) -> dict[str, Any]:
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _what(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "not supported"
        case "too_long" if error["ctx"]["max_length"] == 0:
            return "not supported"
        case "literal_error":
            return f"only {error['ctx']['expected']} is supported"
        case "value_error":
            return str(error["ctx"]["error"])
    return error["msg"]
