"""Connection options for aiokafka's classes, and the diagnosis of connections that fail."""

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Any

from coe.platform.bus.kafka.sasl_trouble import sasl_trouble
from coe.platform.bus.messages import MAX_MESSAGE_BYTES
from coe.platform.sasl import SaslSettings
from coe.platform.settings import CoreSettings
from coe.platform.tls import TlsSettings
from coe.platform.tls_trouble import handshake, lasts, speaks_tls

REQUEST_TIMEOUT_MS = 15_000
# Time after which the broker aborts the transaction of a process that hangs. Read-committed consumers wait no longer.
TRANSACTION_TIMEOUT_MS = 20_000


@dataclass(frozen=True)
class Connection:
    """How to connect to the brokers. `bootstrap` is a comma-separated list of host:port.

    COE_KAFKA_SECURITY selects TLS. Every method raises ArtifactError if COE_TLS_* or COE_KAFKA_SASL_* cannot be used.
    """

    bootstrap: str
    client_id: str
    session_timeout_s: float = 10.0

    @property
    def addresses(self) -> list[str]:
        return [address.strip() for address in self.bootstrap.split(",")]

    def options(self) -> dict[str, Any]:
        sasl = SaslSettings().options()
        security = _encryption()
        if sasl:
            security["security_protocol"] = f"SASL_{security['security_protocol']}"
        return {
            **security,
            **sasl,
            "bootstrap_servers": self.addresses,
            "client_id": self.client_id,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "metadata_max_age_ms": 60_000,
        }

    def producer(self) -> dict[str, Any]:
        """Options of a producer: idempotent, acknowledged by all in-sync replicas, compressed."""
        return {
            **self.options(),
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "max_batch_size": 256 * 1024,
            "max_request_size": MAX_MESSAGE_BYTES,
        }

    def consumer(self, group: str) -> dict[str, Any]:
        """Options of a consumer whose offsets are committed only in transactions."""
        return {
            **self.options(),
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            # A resumed partition has to wait for the current fetch, which covers only the others.
            "fetch_max_wait_ms": 100,
            "session_timeout_ms": int(self.session_timeout_s * 1000),
            "heartbeat_interval_ms": int(self.session_timeout_s * 100),
        }

    async def trouble(self) -> tuple[str, bool]:
        """Why name resolution, TLS or SASL fails, and whether the failure is permanent.

        aiokafka only logs the reason. It is empty if nothing fails, or if no broker responds.
        """
        security = _encryption()
        for address in self.addresses:
            host, port = address.rpartition(":")[0].strip("[]"), int(address.rpartition(":")[2])
            try:
                await asyncio.get_running_loop().getaddrinfo(host, port)
            except OSError as error:
                return f"{address}: the name can't be resolved ({error.strerror})", False
            if "ssl_context" in security:
                if why := await handshake(host, port, security["ssl_context"]):
                    return f"{address}: {why}", lasts(why)
            elif await speaks_tls(host, port):
                return f"{address}: it speaks TLS only: set COE_KAFKA_SECURITY=SSL", True
            if why := await sasl_trouble(host, port, security):
                return f"{address}: {why}", True
        return "", False


def _encryption() -> dict[str, Any]:
    if CoreSettings().kafka_security == "SSL":
        return {"security_protocol": "SSL", "ssl_context": _context(TlsSettings())}
    return {"security_protocol": "PLAINTEXT"}


@cache
def _context(tls: TlsSettings) -> ssl.SSLContext:
    """The TLS context, shared by all clients of the process so that a change of its files is logged only once."""
    return tls.lasting(tls.client_context)
