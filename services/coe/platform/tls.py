"""Certificates of this process, from COE_TLS_* settings, and what each kind of connection makes of them.

What is encrypted is said where the connection is: COE_KAFKA_SECURITY, COE_GRPC_TLS, COE_GATEWAY_HTTP_TLS, and a Redis
URL that begins with `rediss`. These settings only say by whose word the other side is trusted, and who we are.

Certificates are renewed while a process runs: what it keeps for long looks at the files for each new connection.
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

    Every method raises ArtifactError, which names the setting and the file, when one can't be used.
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
        """Of a method below that reads the files."""
        return Renewed("certificates", [path for path in (self.ca, self.cert, self.key) if path is not None], make)

    def lasting(self, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """The context of `make`, one of the two below, for all connections of whoever keeps it."""
        context = _Lasting(ssl.PROTOCOL_TLS_CLIENT)
        context.files = self.renewed(make)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For Kafka and HTTP: verifies the server's name, shows our certificate if any."""
        return self._context(ssl.Purpose.SERVER_AUTH)

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        """For HTTP. `mutual`: only clients whose certificate `ca` signed."""
        self._as_server("an HTTP server", mutual=mutual)
        context = self._context(ssl.Purpose.CLIENT_AUTH)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def redis_options(self) -> dict[str, str]:
        """Keyword arguments of redis-py's TLS connections (residency/connection.py)."""
        files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        return {name: str(path) for name, path in files.items() if path is not None}

    def channel_credentials(self) -> grpc.ChannelCredentials:
        self.check()
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key or self.cert), _read(self.cert))

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """`mutual`: only clients whose certificate `ca` signed may call."""
        cert = self._as_server("a gRPC server", mutual=mutual)
        files = self.renewed(partial(self._server_certificate, cert))
        return grpc.dynamic_ssl_server_credentials(
            files.made,
            files.renew,  # type: ignore[arg-type]  # None is: no change
            require_client_authentication=mutual,
        )

    def _server_certificate(self, cert: Path) -> grpc.ServerCertificateConfiguration:
        self.check()
        pair = ((self.key or cert).read_bytes(), cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], _read(self.ca))

    def _as_server(self, who: str, *, mutual: bool) -> Path:
        """Its certificate. Nobody's would do where callers are asked for one and no authority is trusted."""
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
            # Without a passphrase at hand OpenSSL would ask for it on the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except OSError as error:
            raise _refused(self.cert, self.key or self.cert, error) from None
        return context


class _Lasting(ssl.SSLContext):
    """Has nothing of its own: connections are made by what the files gave last."""

    files: Renewed[ssl.SSLContext]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As asyncio does for each connection, of a client and of a server."""
        self.files.renew()
        return self.files.made.wrap_bio(*args, **kwargs)


def _unusable(name: str, path: Path, error: OSError, content: str) -> ArtifactError:
    """`content`: what is wrong when the file can be read."""
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
