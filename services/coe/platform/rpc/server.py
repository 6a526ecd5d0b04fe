"""The server side: every failure leaves as a rich status, every call has a span."""

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
# What the conventions take for a server's failure; the others are its caller's.
_FAILED = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
# Health is asked for every second: no spans of it.
_UNTRACED = ("/grpc.health.", "/grpc.reflection.")
# A caller gives up when the deadline passes by its clock. By ours that is sooner: the request was on its way first, and
# gRPC rounds up by as much as a hundredth.
_WAY_S = 0.25
_ROUNDED_UP = 0.01


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Maps CoEError to its status. Anything else is logged and becomes an InternalError that shows no internals."""

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
            # None of our services takes a stream of requests.
            return handler
        make, wrap, inner = (
            (grpc.unary_stream_rpc_method_handler, _stream, handler.unary_stream)
            if handler.response_streaming
            else (grpc.unary_unary_rpc_method_handler, _unary, handler.unary_unary)
        )
        # The request is read here: gRPC would log a traceback for bytes that are none.
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
    """Written here: gRPC leaves a generator whose call ends while it writes to the garbage collector."""

    async def write(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        with _span(method, context) as call:
            try:
                async with aclosing(inner(_message(request, read), context)) as responses:
                    async for response in responses:
                        await context.write(response)
            except grpc.aio.BaseError:
                # It can't be written: the caller has gone, or the server's grace is over.
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
    """What is known of a call at its end."""

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
            # By the peer, or by its deadline: gRPC tells the handler no more than that.
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
    """Whether a call that was given up with `left` seconds to its deadline ended by that. `given`: at its start."""
    return given is not None and left is not None and left <= _WAY_S + given * _ROUNDED_UP
