"""Redis clients that fail fast: residency is only a hint, so nothing may wait for it.

| URL | server |
|---|---|
| `redis://HOST:PORT/DB` | one server |
| `redis+cluster://HOST:PORT,HOST:PORT` | a cluster, found through any of these nodes |
| `redis+sentinel://HOST:PORT,HOST:PORT/NAME` | the master that these sentinels call NAME |

With `rediss` instead of `redis` the connection uses TLS, with the certificates from COE_TLS_*. The hosts may be
preceded by `user:password@`, which is not sent to sentinels.
"""

import asyncio
import ssl
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis, Sentinel, connection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from coe.platform.errors import ArtifactError
from coe.platform.tls import TlsSettings
from coe.platform.tls_trouble import explain, handshake, speaks_tls

TIMEOUT_S = 0.5
_PORTS = {"cluster": 6379, "sentinel": 26379}


class _Files(connection.RedisSSLContext):
    """Re-reads the certificate files for each connection; the library would reuse what it read first."""

    def get(self) -> ssl.SSLContext:
        self.context = None
        return super().get()


# The library has no setting for this.
connection.RedisSSLContext = _Files  # type: ignore[misc]


def connect(url: str) -> Any:
    """Creates a redis.asyncio client for the URL. Raises ArtifactError if the URL is not one of the above.

    The return type is Any because the clients share an interface but no type, and the library's types do not
    distinguish bytes from str.
    """
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "decode_responses": False,
    }
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
    parts = urlsplit(url)
    base, _, kind = parts.scheme.partition("+")
    security: dict[str, Any] = TlsSettings().redis_options() if base == "rediss" else {}
    if not kind:
        return Redis.from_url(url, **options, **once, **security)
    if base not in ("redis", "rediss") or kind not in _PORTS:
        raise ArtifactError(f"{parts.scheme}:// is not a supported Redis URL", setting="COE_REDIS_URL")
    if base == "rediss":
        security["ssl"] = True
    hosts = _hosts(parts, _PORTS[kind])
    if kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in hosts]
        # One retry, with which the client looks for a node that moved or failed: this is how it follows a failover.
        return RedisCluster(
            startup_nodes=nodes,
            require_full_coverage=False,
            retry=Retry(NoBackoff(), 1),
            **options,
            **security,
            **_who(parts),
        )
    name = parts.path.strip("/")
    if not name:
        raise ArtifactError("redis+sentinel:// needs the master's name: .../NAME", setting="COE_REDIS_URL")
    sentinel: Any = Sentinel(hosts, sentinel_kwargs={**options, **security})  # type: ignore[no-untyped-call]
    return sentinel.master_for(name, **options, **once, **security, **_who(parts))


def without_login(url: str) -> str:
    """The URL without user and password, safe to show."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def raise_if_cancelled() -> None:
    """Raises CancelledError if the task has been cancelled. Call it after each use of the client.

    The client writes with asyncio.wait_for, which before Python 3.12 loses a cancellation that arrives as it finishes.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def disconnect(client: Any) -> None:
    """Closes a client created by `connect`, and its connections to sentinels, which the library leaves open."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if (sentinel := getattr(pool, "sentinel_manager", None)) is not None:
        await sentinel.aclose()


async def why(url: str, error: Exception) -> str:
    """Describes the failure of a client of `url`, including the cause if TLS is the problem."""
    parts = urlsplit(url)
    hosts = _hosts(parts, _PORTS.get(parts.scheme.partition("+")[2], 6379))
    if not parts.scheme.startswith("rediss"):
        for host, port in hosts:
            if await speaks_tls(host, port):
                return f"{host}:{port} speaks TLS only: COE_REDIS_URL must begin with rediss"
        return f"{type(error).__name__}: {error}"
    try:
        # Checked first because OpenSSL's errors don't name the file.
        context = TlsSettings().client_context()
    except ArtifactError as unusable:
        return unusable.message
    told = explain(error)
    for host, port in hosts:
        told = told or await handshake(host, port, context)
    return f"no encrypted connection with Redis: {told}" if told else f"{type(error).__name__}: {error}"


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    found = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = text.strip().rpartition(":") if ":" in text else (text.strip(), "", "")
        try:
            found.append((host.strip("[]"), int(port or default_port)))
        except ValueError:
            raise ArtifactError(f"{text!r} is not HOST:PORT", setting="COE_REDIS_URL") from None
    return found


def _who(parts: SplitResult) -> dict[str, Any]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}
