"""Certificates of this process, from COE_TLS_* settings, and what each kind of connection makes of them.

What is encrypted is said where the connection is: COE_KAFKA_SECURITY, COE_GRPC_TLS, COE_GATEWAY_HTTP_TLS, and a Redis
URL that begins with `rediss`. These settings only say by whose word the other side is trusted, and who we are.
"""

import ssl
from pathlib import Path

import grpc
from pydantic_settings import SettingsConfigDict

from coe.platform.errors import ArtifactError
from coe.platform.settings import Settings


class TlsSettings(Settings):
    """PEM files. `ca` None: the system's authorities. `cert` and `key`: servers need them, clients may show them."""

    model_config = SettingsConfigDict(env_prefix="COE_TLS_")

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def client_context(self) -> ssl.SSLContext:
        """For Kafka and HTTP: verifies the server's name, shows our certificate if any. Raises ArtifactError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ArtifactError(f"TLS files can't be used: {error}", ca=self.ca, cert=self.cert) from None
        return context

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        """For HTTP. `mutual`: only clients whose certificate `ca` signed. Raises ArtifactError without certificate."""
        if self.cert is None or self.key is None:
            raise ArtifactError("an HTTP server with TLS needs COE_TLS_CERT and COE_TLS_KEY")
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ArtifactError(f"TLS files can't be used: {error}", ca=self.ca, cert=self.cert) from None
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def redis_options(self) -> dict[str, str]:
        """Keyword arguments of redis-py's TLS connections."""
        files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        return {name: str(path) for name, path in files.items() if path is not None}

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """`mutual`: only clients whose certificate `ca` signed may call. Raises ArtifactError without certificate."""
        key, cert = _read(self.key), _read(self.cert)
        if key is None or cert is None:
            raise ArtifactError("a gRPC server with TLS needs COE_TLS_CERT and COE_TLS_KEY")
        return grpc.ssl_server_credentials([(key, cert)], _read(self.ca), require_client_auth=mutual)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"the TLS file {path} can't be read: {error.strerror}") from None
