"""gRPC servers: every failure becomes a rich status, and every call has a span and a metric."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id
from opentelemetry.util.types import AttributeValue

from coe.platform import logs
from coe.platform.errors import CoEError, InternalError, UndecodableMessage
from coe.platform.rpc.status import from_call, to_grpc
from coe.platform.telemetry import names, registry, spans, w3c

_log = logs.get(__name__)
# Statuses that the OpenTelemetry conventions count as server errors; the others are the caller's.
_FAILED = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
# Health is probed every second, so it gets no spans.
_UNTRACED = ("/grpc.health.", "/grpc.reflection.")
# A caller cancels at the deadline by its own clock, which is slightly early by ours: the request took time to arrive,
# and gRPC rounds timeouts up by as much as a hundredth.
_WAY_S = 0.25
_ROUNDED_UP = 0.01


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Maps CoEErrors to their statuses. Other exceptions are logged and become InternalErrors without internals."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_UNTRACED):
            return handler
        if handler.request_streaming:
            # None of our services has streaming requests.
            return handler
        make, wrap, inner = (
            (grpc.unary_stream_rpc_method_handler, _stream, handler.unary_stream)
            if handler.response_streaming
            else (grpc.unary_unary_rpc_method_handler, _unary, handler.unary_unary)
        )
        # The request is decoded by the wrapper, because gRPC would log a traceback for malformed bytes.
        answer = wrap(inner, method.lstrip("/"), handler.request_deserializer)
        return make(answer, response_serializer=handler.response_serializer)


def _unary(
    inner: Callable[..., Awaitable[Any]], method: str, read: Callable[[bytes], Any]
) -> Callable[..., Awaitable[Any]]:
    async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with _span(method, context) as call:
            try:
                return await inner(_message(request, read), context)
            except Exception as error:
                await _abort(error, context, call, method)

    return answer


def _stream(inner: Callable[..., Any], method: str, read: Callable[[bytes], Any]) -> Callable[..., Awaitable[None]]:
    """Writes the responses itself: gRPC leaves the generator of a call that ends during a write unclosed."""

    async def write(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        with _span(method, context) as call:
            try:
                async with aclosing(inner(_message(request, read), context)) as responses:
                    async for response in responses:
                        await context.write(response)
            except grpc.aio.BaseError:
                # Writing failed: the caller is gone, or the server's grace period is over.
                raise asyncio.CancelledError from None
            except Exception as error:
                await _abort(error, context, call, method)

    return write


def _message(request: bytes, read: Callable[[bytes], Any]) -> Any:
    try:
        return read(request)
    except DecodeError:
        raise UndecodableMessage("the request is not the bytes of the method's message") from None


async def _abort(error: Exception, context: grpc.aio.ServicerContext[Any, Any], call: "_Call", method: str) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, grpc.RpcError):
        error = from_call(error)
    if not isinstance(error, CoEError):
        _log.error("a call failed unexpectedly", method=method, exc_info=error)
        error = InternalError(
            f"{method} failed; the service's log has the reason",
            trace_id=format_trace_id(call.span.get_span_context().trace_id),
        )
    call.status, call.error = error.grpc_status.name, error.code
    await context.abort_with_status(to_grpc(error))


@dataclass
class _Call:
    """A call's span and result."""

    span: Span
    status: str = "OK"
    error: str = ""


@contextmanager
def _span(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> "Iterator[_Call]":
    started, given = time.perf_counter(), context.time_remaining()
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    attributes: dict[str, AttributeValue] = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: method}
    span = spans.start(method, SpanKind.SERVER, w3c.parse(metadata.get), lambda: attributes)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        call = _Call(span)
        try:
            yield call
        except (asyncio.CancelledError, GeneratorExit):
            # Cancelled by the peer or by its deadline: gRPC does not tell the handler which.
            late = is_late(given, context.time_remaining())
            call.status, call.error = ("DEADLINE_EXCEEDED", "deadline_exceeded") if late else ("CANCELLED", "cancelled")
            raise
        finally:
            attributes |= {names.RPC_STATUS: call.status, **({names.ERROR_TYPE: call.error} if call.error else {})}
            span.set_attributes(attributes)
            if call.status in _FAILED:
                span.set_status(StatusCode.ERROR)
            registry.histogram("rpc.server.call.duration").record(time.perf_counter() - started, attributes)


def is_late(given: float | None, left: float | None) -> bool:
    """Whether a call cancelled `left` seconds before its deadline ended because of it. `given`: the initial timeout."""
    return given is not None and left is not None and left <= _WAY_S + given * _ROUNDED_UP
