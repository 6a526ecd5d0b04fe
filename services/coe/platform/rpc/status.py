"""CoEError to and from google.rpc.Status, with ErrorInfo (domain "coe") and RetryInfo."""

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
    Unavailable,
    from_code,
)

DOMAIN = "coe"
# The status travels in HTTP/2 trailers, which peers bound to 8 KiB.
_MAX_MESSAGE = 1024
_MAX_DETAIL = 256
_DEFAULT_RETRY_S = 1

_WITHOUT_DETAILS: dict[grpc.StatusCode, type[CoEError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidPrompt,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.RESOURCE_EXHAUSTED: CapacityExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def to_status(error: CoEError, *, retry_after_s: int = _DEFAULT_RETRY_S) -> Status:
    info = ErrorInfo(reason=error.code, domain=DOMAIN)
    for name, value in error.details.items():
        info.metadata[name] = value[:_MAX_DETAIL]
    status = Status(code=error.grpc_status.value[0], message=error.message[:_MAX_MESSAGE], details=[_packed(info)])
    if error.retryable:
        status.details.append(_packed(RetryInfo(retry_delay=Duration(seconds=retry_after_s))))
    return status


def to_grpc(error: CoEError) -> grpc.Status:
    """What `context.abort_with_status` takes."""
    return rpc_status.to_status(to_status(error))


def from_call(error: grpc.RpcError) -> CoEError:
    """The CoEError behind a failed call, whoever failed it: the service, or gRPC itself."""
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
    kind = _WITHOUT_DETAILS.get(code, InternalError)
    return kind(message, grpc_status=code.name)


def _packed(message: ErrorInfo | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
