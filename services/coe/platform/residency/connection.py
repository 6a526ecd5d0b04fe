"""A client that fails fast: residency is a hint, nobody may wait for it.

| URL | server |
|---|---|
| `redis://HOST:PORT/DB` | one server |
| `redis+cluster://HOST:PORT,HOST:PORT` | a cluster, found through any of these nodes |
| `redis+sentinel://HOST:PORT,HOST:PORT/NAME` | the master that these sentinels call NAME |

With `rediss` for `redis` the connection is encrypted, by the certificates of COE_TLS_*. `user:password@` may stand
before the hosts; sentinels are asked without it.
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
    """Of a connection, which the library opens again with what it read at first."""

    def get(self) -> ssl.SSLContext:
        self.context = None
        return super().get()


# There is no setting for it.
connection.RedisSSLContext = _Files  # type: ignore[misc]


def connect(url: str) -> Any:
    """A client of redis.asyncio, which differ in type but not in use. The library's types do not tell bytes from str.

    Raises ArtifactError when the URL is of no kind above.
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
        # A node that moved or failed is looked for once more: that is how a fail-over is followed.
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
    """As people may see it: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def raise_if_cancelled() -> None:
    """To be called after the client was: it writes by asyncio.wait_for, which before Python 3.12 loses a cancellation
    that comes as it ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def disconnect(client: Any) -> None:
    """Closes a client that `connect` made, and those of its sentinels, which the library leaves open."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if (sentinel := getattr(pool, "sentinel_manager", None)) is not None:
        await sentinel.aclose()


async def why(url: str, error: Exception) -> str:
    """What a failure of a client of `url` says to people: about encryption, where that is what fails."""
    parts = urlsplit(url)
    hosts = _hosts(parts, _PORTS.get(parts.scheme.partition("+")[2], 6379))
    if not parts.scheme.startswith("rediss"):
        for host, port in hosts:
            if await speaks_tls(host, port):
                return f"{host}:{port} speaks TLS only: COE_REDIS_URL must begin with rediss"
        return f"{type(error).__name__}: {error}"
    try:
        # OpenSSL names no files.
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
