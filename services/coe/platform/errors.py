"""The one error tree. Every failure a user can meet is one of these.

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
    """A failure with a stable code. `details` are facts for programs; the message is one sentence for people."""

    code: ClassVar[str] = "coe"
    # What the client sent or did: nobody is paged for it, and its message may quote the prompt.
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
    """The prompt can't be served as it is: a bad sampling value, say, or a conversation without a user."""

    code = "invalid_prompt"
    of_client = True
    grpc_status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400


class UndecodableMessage(InvalidPrompt):
    """The bytes of a message are not what its content type says."""

    code = "undecodable_message"


class PromptTooLarge(InvalidPrompt):
    """The prompt has more bytes than the service accepts."""

    code = "prompt_too_large"
    http_status = 413


class ContextExceeded(InvalidPrompt):
    """Prompt tokens and max_tokens don't fit the expert's context."""

    code = "context_exceeded"


class RequestIdReused(CoEError):
    """Another prompt was submitted under this request id."""

    code = "request_id_reused"
    of_client = True
    grpc_status = grpc.StatusCode.ALREADY_EXISTS
    http_status = 422


class Unauthenticated(CoEError):
    """The caller shows no API key that the gateway knows."""

    code = "invalid_api_key"
    of_client = True
    grpc_status = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401


class ExpertNotFound(CoEError):
    """No such expert is hosted."""

    code = "expert_not_found"
    grpc_status = grpc.StatusCode.NOT_FOUND
    http_status = 404


class ExpertTooLarge(CoEError):
    """The expert can't fit its tier even when that is empty."""

    code = "expert_too_large"
    grpc_status = grpc.StatusCode.FAILED_PRECONDITION
    http_status = 422


class DeadlineExceeded(CoEError):
    """The prompt's deadline passed before its answer was complete."""

    code = "deadline_exceeded"
    grpc_status = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = 504


class Cancelled(CoEError):
    """The client went away or asked to stop."""

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
    """A part that is needed does not answer now."""

    code = "unavailable"
    retryable = True
    grpc_status = grpc.StatusCode.UNAVAILABLE
    http_status = 503


class TierLoadError(Unavailable):
    """An expert's weights could not be brought into a tier."""

    code = "tier_load"


class LeaseLost(CoEError):
    """The lease's generation is no longer the slot's: its bytes must not be read."""

    code = "lease_lost"
    retryable = True
    grpc_status = grpc.StatusCode.ABORTED
    http_status = 503


class ChecksumMismatch(CoEError):
    """Bytes of a bundle differ from its manifest."""

    code = "checksum_mismatch"
    grpc_status = grpc.StatusCode.DATA_LOSS


class ArtifactError(CoEError):
    """A router, mapping or bundle file is corrupt, of another version or made for another encoder."""

    code = "artifact"
    grpc_status = grpc.StatusCode.FAILED_PRECONDITION


class InternalError(CoEError):
    """A fault of ours. The log of the part named in the details has the trace."""

    code = "internal"


class NumericalError(InternalError):
    """What an expert computed for a prompt is no number: it overflowed, or its weights are damaged."""

    code = "numerical"


def from_code(code: str, message: str, details: Mapping[str, str] | None = None) -> CoEError:
    """The error that another process named; an unknown code (a newer peer's) becomes an InternalError."""
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
