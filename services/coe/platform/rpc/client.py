"""gRPC clients: channels with our options, and errors as CoEErrors."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import grpc
import grpc.aio
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from coe.platform.renewed import Renewed
from coe.platform.rpc import options
from coe.platform.rpc.status import from_call
from coe.platform.settings import GrpcSettings
from coe.platform.telemetry import names, registry, spans, w3c
from coe.platform.tls import TlsSettings
from coe.platform.tls_trouble import handshake, speaks_tls

DEFAULT_TIMEOUT_S = 30.0
_UNCONNECTED = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.TRANSIENT_FAILURE)


@contextmanager
def calls() -> Iterator[None]:
    """A context in which failed gRPC calls raise the corresponding CoEError."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_call(error) from None


def channel(address: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> grpc.aio.Channel:
    """A channel whose unary calls time out after `timeout_s` by default. Streams have no default timeout."""
    return bare_channel(address, [_UnaryCalls(timeout_s), _StreamCalls()])


def bare_channel(address: str, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
    """A channel with our options and, by default, no interceptors. COE_GRPC_TLS determines whether it uses TLS."""
    if GrpcSettings().tls == "off":
        return grpc.aio.insecure_channel(address, options=options.CHANNEL, interceptors=interceptors)

    def encrypted(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, credentials, options=options.CHANNEL, interceptors=interceptors)

    tls = TlsSettings()
    return cast("grpc.aio.Channel", _Lasting(tls.renewed(tls.channel_credentials), encrypted))


async def tls_trouble(address: str) -> str:
    """Why TLS keeps a server at host:port from responding; "" if TLS is not the reason."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return ""
    if GrpcSettings().tls == "off":
        return "it speaks TLS only: set COE_GRPC_TLS" if await speaks_tls(host.strip("[]"), int(port)) else ""
    return await handshake(host.strip("[]"), int(port), TlsSettings().client_context(), ["h2"])


class _Lasting:
    """A channel that is replaced before it reconnects if the files have changed.

    gRPC's own channels keep the credentials they were created with.
    """

    def __init__(
        self,
        files: Renewed[grpc.ChannelCredentials],
        make: Callable[[grpc.ChannelCredentials], grpc.aio.Channel],
    ) -> None:
        self._files = files
        self._make = make
        self._channel = make(files.made)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def __getattr__(self, name: str) -> Any:
        """Delegates to the channel. Stubs fetch their callables once, so those look up the newest channel per call."""
        if not name.startswith(("unary_", "stream_")):
            return getattr(self._channel, name)

        def kind(*method: Any, **options: Any) -> Callable[..., Any]:
            return lambda *args, **kwargs: getattr(self._newest(), name)(*method, **options)(*args, **kwargs)

        return kind

    def _newest(self) -> grpc.aio.Channel:
        """The channel, replaced first if the files have changed and it is unconnected, so that no calls are running."""
        if self._channel.get_state() in _UNCONNECTED and (credentials := self._files.renew()) is not None:
            self._channel = self._make(credentials)
        return self._channel


class _UnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives each unary call a deadline and a span, and sends the trace context as metadata."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        method = _method(client_call_details)
        attributes: dict[str, AttributeValue] = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: method}
        span = spans.start(method, SpanKind.CLIENT, spans.current(), lambda: attributes)
        with trace.use_span(span, end_on_exit=True):
            started = time.perf_counter()
            timeout = client_call_details.timeout if client_call_details.timeout is not None else self._timeout_s
            call = await continuation(_details(client_call_details, timeout), request)
            code = grpc.StatusCode.CANCELLED
            try:
                code = await call.code()
            finally:
                if code is grpc.StatusCode.CANCELLED:
                    # The awaiting task may have been cancelled; gRPC would let the call run until its deadline.
                    call.cancel()
                attributes[names.RPC_STATUS] = code.name
                if code is not grpc.StatusCode.OK:
                    attributes[names.ERROR_TYPE] = code.name
                    span.set_status(StatusCode.ERROR)
                span.set_attributes(attributes)
                registry.histogram("rpc.client.call.duration").record(time.perf_counter() - started, attributes)
            return call


class _StreamCalls(grpc.aio.UnaryStreamClientInterceptor):
    """Sends the trace context with each stream. Its deadline and lifetime are up to the caller."""

    async def intercept_unary_stream(
        self,
        continuation: Callable[..., Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        return await continuation(_details(client_call_details, client_call_details.timeout), request)


def _details(details: grpc.aio.ClientCallDetails, timeout: float | None) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()), *w3c.headers(spans.current()))
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=timeout,
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


def _method(details: grpc.aio.ClientCallDetails) -> str:
    # The type stubs declare str, but at run time it is bytes.
    method: Any = details.method
    return (method.decode() if isinstance(method, bytes) else str(method)).lstrip("/")
