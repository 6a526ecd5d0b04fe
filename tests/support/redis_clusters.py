"""Several real Valkey servers on loopback that form a cluster, or a master with a replica and sentinels."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from coe.local.ports import free_port
from coe.local.process import Child
from coe.local.valkey import ValkeyServer, binary
from support.deadlines import until

SLOTS = 16384


@dataclass(frozen=True)
class Group:
    """`servers` in the order of their making: of sentinels' group, the master first."""

    url: str
    servers: list[ValkeyServer]


async def ask(port: int, *command: object) -> Any:
    async with Redis(port=port, decode_responses=True) as client:
        return await client.execute_command(*command)


@asynccontextmanager
async def cluster(directory: Path, nodes: int = 3) -> AsyncIterator[Group]:
    async with AsyncExitStack() as stack:
        servers = []
        for number in range(nodes):
            options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", "cluster-port": str(free_port())}
            server = ValkeyServer(directory / str(number), extra=options)
            servers.append(await stack.enter_async_context(server))
        share = SLOTS // nodes
        for number, server in enumerate(servers):
            last = SLOTS - 1 if number == nodes - 1 else (number + 1) * share - 1
            await ask(server.port, "CLUSTER", "ADDSLOTSRANGE", number * share, last)
        for server in servers[1:]:
            bus_port = server.extra["cluster-port"]
            await ask(servers[0].port, "CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)

        async def agreed() -> bool:
            infos = [await ask(server.port, "CLUSTER", "INFO") for server in servers]
            return all("cluster_state:ok" in str(info) for info in infos)

        await until(agreed)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        yield Group(f"redis+cluster://{hosts}", servers)


@asynccontextmanager
async def sentinels(directory: Path, count: int = 3) -> AsyncIterator[Group]:
    """A master `coe` and its replica, watched by sentinels that fail over after a second."""
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(ValkeyServer(directory / "master"))
        extra = {"replicaof": f"127.0.0.1 {master.port}"}
        replica = await stack.enter_async_context(ValkeyServer(directory / "replica", extra=extra))
        ports = [free_port() for _ in range(count)]
        for port in ports:
            settings = directory / f"sentinel-{port}.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor coe 127.0.0.1 {master.port} {count // 2 + 1}\n"
                "sentinel down-after-milliseconds coe 1000\nsentinel failover-timeout coe 3000\n"
            )
            child = Child("sentinel", [binary(), settings, "--sentinel"], log=settings.with_suffix(".log"), grace_s=5)
            child.start()
            stack.push_async_callback(child.stop)

        async def ready() -> bool:
            for port in ports:
                try:
                    facts = await ask(port, "SENTINEL", "MASTER", "coe")
                except OSError:
                    return False
                if int(facts["num-other-sentinels"]) < count - 1 or int(facts["num-slaves"]) < 1:
                    return False
            return "up" in str(await ask(replica.port, "INFO", "replication"))

        await until(ready, seconds=60)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield Group(f"redis+sentinel://{hosts}/coe", [master, replica])
