"""The error tree: every failure that a user can encounter is one of these.

* CoEError                        code                  retry  gRPC                 HTTP
  * InvalidPrompt                 invalid_prompt        no     INVALID_ARGUMENT     400
    * UndecodableMessage          undecodable_message   no     INVALID_ARGUMENT     400
    * PromptTooLarge              prompt_too_large      no     INVALID_ARGUMENT     413
    * ContextExceeded             context_exceeded      no     INVALID_ARGUMENT     400
  * RequestIdReused               request_id_reused     no     ALREADY_EXISTS       422
  * Unauthenticated               invalid_api_key       no     UNAUTHENTICATED      401
  * ExpertNotFound                expert_not_found      no     NOT_FOUND            404
  * ExpertTooLarge                expert_too_large      no     FAILED_PRECONDITION  422
  * DeadlineExceeded              deadline_exceeded     no     DEADLINE_EXCEEDED    504
  * Cancelled                     cancelled             no     CANCELLED            499
  * CapacityExceeded              capacity_exceeded     yes    RESOURCE_EXHAUSTED   429
  * Unavailable                   unavailable           yes    UNAVAILABLE          503
    * TierLoadError               tier_load             yes    UNAVAILABLE          503
  * LeaseLost                     lease_lost            yes    ABORTED              503
  * ChecksumMismatch              checksum_mismatch     no     DATA_LOSS            500
  * ArtifactError                 artifact              no     FAILED_PRECONDITION  500
  * InternalError                 internal              no     INTERNAL             500
    * NumericalError              numerical             no     INTERNAL             500

`code` is also the reason in a dead letter's headers and in `PromptCompleted.error.code`.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import grpc

from coe._proto import common_pb2


class CoEError(Exception):
    """A failure with a stable code. `details` are for programs; the message is one sentence for people."""

    code: ClassVar[str] = "coe"
    # Caused by the client: nobody is paged for it, and its message may quote the prompt.
    of_client: ClassVar[bool] = False
    retryable: ClassVar[bool] = False
    grpc_status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = {name: str(value) for name, value in details.items()}

    def to_proto(self) -> common_pb2.Error:
        return common_pb2.Error(code=self.code, message=self.message, retryable=self.retryable, details=self.details)


class InvalidPrompt(CoEError):
    """The prompt can't be served as it is, for example because of an invalid sampling value or a conversation without a
    user.
    """

    code = "invalid_prompt"
    of_client = True
    grpc_status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400


class UndecodableMessage(InvalidPrompt):
    """The bytes of a message do not match its content type."""

    code = "undecodable_message"


class PromptTooLarge(InvalidPrompt):
    """The prompt is larger than the service accepts."""

    code = "prompt_too_large"
    http_status = 413


class ContextExceeded(InvalidPrompt):
    """Prompt tokens and max_tokens exceed the expert's context."""

    code = "context_exceeded"


class RequestIdReused(CoEError):
    """A different prompt was submitted under this request id."""

    code = "request_id_reused"
    of_client = True
    grpc_status = grpc.StatusCode.ALREADY_EXISTS
    http_status = 422


class Unauthenticated(CoEError):
    """The caller did not present an API key known to the gateway."""

    code = "invalid_api_key"
    of_client = True
    grpc_status = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401


class ExpertNotFound(CoEError):
    """The expert is not hosted."""

    code = "expert_not_found"
    grpc_status = grpc.StatusCode.NOT_FOUND
    http_status = 404


class ExpertTooLarge(CoEError):
    """The expert does not fit even in an empty tier."""

    code = "expert_too_large"
    grpc_status = grpc.StatusCode.FAILED_PRECONDITION
    http_status = 422


class DeadlineExceeded(CoEError):
    """The prompt's deadline passed before its answer was complete."""

    code = "deadline_exceeded"
    grpc_status = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = 504


class Cancelled(CoEError):
    """The client disconnected or asked to stop."""

    code = "cancelled"
    of_client = True
    grpc_status = grpc.StatusCode.CANCELLED
    http_status = 499


class CapacityExceeded(CoEError):
    """A bounded queue or budget is full: try again later."""

    code = "capacity_exceeded"
    retryable = True
    grpc_status = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 429


class Unavailable(CoEError):
    """A required component does not answer at the moment."""

    code = "unavailable"
    retryable = True
    grpc_status = grpc.StatusCode.UNAVAILABLE
    http_status = 503


class TierLoadError(Unavailable):
    """An expert's weights could not be loaded into a tier."""

    code = "tier_load"


class LeaseLost(CoEError):
    """The slot has a newer generation than the lease: its bytes must not be read."""

    code = "lease_lost"
    retryable = True
    grpc_status = grpc.StatusCode.ABORTED
    http_status = 503


class ChecksumMismatch(CoEError):
    """A bundle's bytes differ from its manifest."""

    code = "checksum_mismatch"
    grpc_status = grpc.StatusCode.DATA_LOSS


class ArtifactError(CoEError):
    """A router, mapping or bundle file is corrupt, of a different version or made for a different encoder."""

    code = "artifact"
    grpc_status = grpc.StatusCode.FAILED_PRECONDITION


class InternalError(CoEError):
    """A fault in the software. The log of the service named in the details has the traceback."""

    code = "internal"


class NumericalError(InternalError):
    """An expert's results for a prompt are not finite: it overflowed, or its weights are damaged."""

    code = "numerical"


def from_code(code: str, message: str, details: Mapping[str, str] | None = None) -> CoEError:
    """The error reported by another process; an unknown code (from a newer version) becomes an InternalError."""
    for kind in walk(CoEError):
        if kind.code == code and kind is not CoEError:
            return kind(message, **(details or {}))
    return InternalError(message, code=code)


def from_proto(error: common_pb2.Error) -> CoEError:
    return from_code(error.code, error.message, dict(error.details))


def walk(kind: type[CoEError]) -> Iterator[type[CoEError]]:
    """`kind` and everything below it in the tree."""
    yield kind
    for child in kind.__subclasses__():
        yield from walk(child)
