"""Converts CoEError to and from google.rpc.Status, with ErrorInfo (domain "coe") and RetryInfo."""

from itertools import islice
from typing import cast

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from coe.platform.errors import (
    Cancelled,
    CapacityExceeded,
    CoEError,
    DeadlineExceeded,
    InternalError,
    InvalidPrompt,
    PromptTooLarge,
    Unavailable,
    from_code,
)

DOMAIN = "coe"
# Limits that keep a status within the 8 KiB peers allow for HTTP/2 trailers. They contain the message twice: as text,
# where a non-ASCII byte takes three, and with the details in base64.
_MAX_MESSAGE_BYTES = 1024
_MAX_DETAIL_BYTES = 256
_MAX_DETAILS = 6
_DEFAULT_RETRY_S = 1
# Part of gRPC's text for an oversized message, whose status code is otherwise used for transient conditions.
_TOO_LARGE = "message larger than max"

_WITHOUT_DETAILS: dict[grpc.StatusCode, type[CoEError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidPrompt,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.RESOURCE_EXHAUSTED: CapacityExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def to_status(error: CoEError, *, retry_after_s: int = _DEFAULT_RETRY_S) -> Status:
    info = ErrorInfo(reason=error.code, domain=DOMAIN)
    for name, value in islice(error.details.items(), _MAX_DETAILS):
        info.metadata[name] = _beginning(value, _MAX_DETAIL_BYTES)
    message = _beginning(error.message, _MAX_MESSAGE_BYTES)
    status = Status(code=error.grpc_status.value[0], message=message, details=[_packed(info)])
    if error.retryable:
        status.details.append(_packed(RetryInfo(retry_delay=Duration(seconds=retry_after_s))))
    return status


def to_grpc(error: CoEError) -> grpc.Status:
    """The error in the form that `context.abort_with_status` takes."""
    return rpc_status.to_status(to_status(error))


def from_call(error: grpc.RpcError) -> CoEError:
    """The CoEError for a failed call, whether the service or gRPC itself failed it."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return InternalError(str(error))
    code, message = error.code(), error.details() or "no reason given"
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:
        status = None
    for detail in status.details if status is not None else ():
        info = ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return from_code(info.reason, message, dict(info.metadata))
    if code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"another service listens there, or one of another version ({message})"
    kind = PromptTooLarge if _TOO_LARGE in message else _WITHOUT_DETAILS.get(code, InternalError)
    return kind(message, grpc_status=code.name)


def _beginning(text: str, nbytes: int) -> str:
    return text.encode("utf-8", "replace")[:nbytes].decode("utf-8", "ignore")


def _packed(message: ErrorInfo | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
