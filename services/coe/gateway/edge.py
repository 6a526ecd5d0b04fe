"""Middleware around every HTTP request: request id, span, metrics, and a log line on failure."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coe.gateway.refusals import failed, refuse
from coe.platform import logs
from coe.platform.errors import Unavailable, from_code
from coe.platform.telemetry import names, registry, spans, w3c

_log = logs.get(__name__)
IDEMPOTENCY_KEY = "idempotency-key"
REQUEST_ID = "x-request-id"
# Probed every second.
_UNTRACED = "/health"


class Edge:
    """ASGI middleware. Sets `request.state.request_id`; handlers set `request.state.error` to an error's code."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == _UNTRACED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(headers)
        method = _method(scope["method"])
        attributes: dict[str, AttributeValue] = {
            names.HTTP_METHOD: method,
            names.URL_SCHEME: scope.get("scheme", "http"),
        }
        if route := _route(self._routes, scope):
            attributes[names.HTTP_ROUTE] = route
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault(REQUEST_ID, state["request_id"])
            await send(message)

        started = time.perf_counter()
        parent = w3c.parse(headers.get)
        asked = {**attributes, names.URL_PATH: scope["path"]}
        span = spans.start(f"{method} {route}".rstrip(), SpanKind.SERVER, parent, lambda: asked)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self._app(scope, receive, answer)
            except asyncio.CancelledError:
                # The server cancels requests that outlast its grace period.
                if not status:
                    error = Unavailable("the gateway is stopping: try again")
                    await refuse(Request(scope), error)(scope, receive, answer)
                raise
            except Exception as error:
                _log.error("a request failed unexpectedly", request_id=state["request_id"], exc_info=error)
                if status:  # the response has begun and cannot be replaced
                    span.set_status(StatusCode.ERROR)
                    raise
                await failed(Request(scope))(scope, receive, answer)
            finally:
                if status:
                    attributes[names.HTTP_STATUS] = status
                if code := state.get("error"):
                    attributes[names.ERROR_TYPE] = code
                span.set_attributes(attributes)
                registry.histogram("http.server.request.duration").record(time.perf_counter() - started, attributes)
                # A stream's error comes after its status has been sent.
                ended = from_code(code, "").http_status if code and status < 400 else status
                if ended >= 500:
                    span.set_status(StatusCode.ERROR)
                if status >= 400:
                    say = _log.warning if status >= 500 else _log.info
                    say("a request was refused", request_id=state["request_id"], status=status, code=code, route=route)


def request_id(headers: Headers) -> str:
    """Derives the id from the caller and Idempotency-Key, so that retries share it; without a key, generates one."""
    key = headers.get(IDEMPOTENCY_KEY)
    if not key:
        return uuid4().hex
    caller = headers.get("authorization", "")
    return hashlib.sha256(f"{caller}\n{key}".encode()).hexdigest()[:32]


def _route(routes: Sequence[BaseRoute], scope: Scope) -> str:
    """The declared path of the matching route, so that metrics don't get a series per requested name."""
    served = (route.path for route in routes if isinstance(route, Route) and route.matches(scope)[0] != Match.NONE)
    return next(served, "")


def _method(method: str) -> str:
    return method if method in ("GET", "POST", "HEAD", "OPTIONS") else "_OTHER"
