"""This process's certificates, from COE_TLS_* settings, in the form each kind of connection needs.

Whether a connection uses TLS is set elsewhere: by COE_KAFKA_SECURITY, COE_GRPC_TLS, COE_GATEWAY_HTTP_TLS, and a Redis
URL that begins with `rediss`. These settings only name the trusted authorities and this process's own certificate.

Certificates can be renewed while a process runs: long-lived objects check the files for each new connection.
"""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from pydantic_settings import SettingsConfigDict

from coe.platform.errors import ArtifactError
from coe.platform.renewed import Made, Renewed
from coe.platform.settings import Settings


class TlsSettings(Settings):
    """PEM files.

    Methods that read a file raise ArtifactError, which names the setting and the file, if it cannot be used.
    """

    model_config = SettingsConfigDict(env_prefix="COE_TLS_", env_ignore_empty=True)

    # Trusted certificate authorities for the other side's certificates. None: the system's.
    ca: Path | None = None
    # This process's certificate. Required for servers, optional for clients.
    cert: Path | None = None
    # None: the key is in the certificate file.
    key: Path | None = None

    def check(self) -> None:
        self.client_context()

    def renewed(self, make: Callable[[], Made]) -> Renewed[Made]:
        """Wraps one of the methods below so that it is called again when the files change."""
        return Renewed("certificates", [path for path in (self.ca, self.cert, self.key) if path is not None], make)

    def lasting(self, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """A context that can be kept: each new connection uses the newest context from `make`, one of the two below."""
        context = _Lasting(ssl.PROTOCOL_TLS_CLIENT)
        context.files = self.renewed(make)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A context for Kafka and HTTP clients. Verifies the server's name and presents our certificate, if any."""
        return self._context(ssl.Purpose.SERVER_AUTH)

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        """A context for HTTP servers. `mutual`: accept only clients with a certificate signed by `ca`."""
        self._as_server("an HTTP server", mutual=mutual)
        context = self._context(ssl.Purpose.CLIENT_AUTH)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def redis_options(self) -> dict[str, str]:
        """Keyword arguments for redis-py's TLS connections (residency/connection.py)."""
        files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        return {name: str(path) for name, path in files.items() if path is not None}

    def channel_credentials(self) -> grpc.ChannelCredentials:
        self.check()
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key or self.cert), _read(self.cert))

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """Credentials of gRPC servers. `mutual`: accept only clients with a certificate signed by `ca`."""
        cert = self._as_server("a gRPC server", mutual=mutual)
        files = self.renewed(partial(self._server_certificate, cert))
        return grpc.dynamic_ssl_server_credentials(
            files.made,
            files.renew,  # type: ignore[arg-type]  # None means unchanged
            require_client_authentication=mutual,
        )

    def _server_certificate(self, cert: Path) -> grpc.ServerCertificateConfiguration:
        self.check()
        pair = ((self.key or cert).read_bytes(), cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], _read(self.ca))

    def _as_server(self, who: str, *, mutual: bool) -> Path:
        """The server's certificate file. Raises ArtifactError if a required setting is missing.

        `mutual` requires `ca`: with no trusted authority, no caller's certificate would be accepted.
        """
        if self.cert is None:
            raise ArtifactError(f"{who} with TLS needs COE_TLS_CERT and COE_TLS_KEY")
        if mutual and self.ca is None:
            raise ArtifactError(f"{who} that asks callers for a certificate needs COE_TLS_CA")
        return self.cert

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(purpose, cafile=self.ca)
        except OSError as error:
            assert self.ca is not None
            raise _unusable("COE_TLS_CA", self.ca, error, "holds no certificates in PEM") from None
        if self.cert is None:
            if self.key is not None:
                raise ArtifactError(f"COE_TLS_KEY ({self.key}) is set but COE_TLS_CERT is not")
            return context
        for name, path, wanted in (
            ("COE_TLS_CERT", self.cert, "CERTIFICATE"),
            ("COE_TLS_KEY", self.key or self.cert, "PRIVATE KEY"),
        ):
            try:
                held = f"{wanted}-----".encode() in path.read_bytes()
            except OSError as error:
                raise _unusable(name, path, error, "") from None
            if not held:
                raise ArtifactError(f"{name}: {path} holds no {wanted.lower()} in PEM", setting=name, path=path)
        try:
            # Without this callback OpenSSL would ask for a passphrase on the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except OSError as error:
            raise _refused(self.cert, self.key or self.cert, error) from None
        return context


class _Lasting(ssl.SSLContext):
    """A context that delegates every connection to the newest context made from the files."""

    files: Renewed[ssl.SSLContext]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Called by asyncio for each connection, client or server."""
        self.files.renew()
        return self.files.made.wrap_bio(*args, **kwargs)


def _unusable(name: str, path: Path, error: OSError, content: str) -> ArtifactError:
    """The error for an unusable file. `content`: what is wrong if the file can be read."""
    why = content if isinstance(error, ssl.SSLError) else f"can't be read: {error.strerror}"
    return ArtifactError(f"{name}: {path} {why}", setting=name, path=path)


def _refused(cert: Path, key: Path, error: OSError) -> ArtifactError:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return ArtifactError(f"COE_TLS_KEY: {key} is not the key of the certificate {cert}", cert=cert, key=key)
    if b"ENCRYPTED" in key.read_bytes():
        return ArtifactError(f"COE_TLS_KEY: {key} has a passphrase, which is not supported", key=key)
    return ArtifactError(f"COE_TLS_CERT, COE_TLS_KEY: {cert} or {key} is damaged: {error}", cert=cert, key=key)


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
