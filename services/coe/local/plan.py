"""Decides which services a stack runs, and the environment of each. Pure functions, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, repeat
from pathlib import Path

from coe.local.options import StackOptions
from coe.local.service import ServiceSpec


@dataclass(frozen=True)
class Servers:
    """The servers that the services connect to."""

    kafka_bootstrap: str
    redis_url: str


@dataclass(frozen=True)
class Plan:
    """Services in start order. Those of one stage start together; stages stop in reverse order."""

    stages: tuple[tuple[ServiceSpec, ...], ...]
    gateway: str
    gateway_http: str

    @property
    def services(self) -> tuple[ServiceSpec, ...]:
        return tuple(spec for stage in self.stages for spec in stage)


def arena_name(home: Path) -> str:
    """The name of the shared memory for the HBM tier of a home: stable across starts, different for each home."""
    return f"coe-{sha256(str(home.resolve()).encode()).hexdigest()[:12]}"


def plan(
    options: StackOptions,
    home: Path,
    servers: Servers,
    hbm_bytes: int,
    take_port: Callable[[int | None], int],
    metrics_port: int = 0,
) -> Plan:
    """`take_port(preferred)` returns a free port. Metrics use consecutive ports from `metrics_port`; 0: none."""
    common = {
        "COE_HOME": str(home),
        "COE_KAFKA_BOOTSTRAP": servers.kafka_bootstrap,
        "COE_REDIS_URL": servers.redis_url,
        "COE_LOG_LEVEL": options.log_level,
    }
    tiers_env = {"COE_TIERS_ARENA": arena_name(home), "COE_TIERS_HBM_BYTES": str(hbm_bytes)}
    if options.ddr_bytes is not None:
        tiers_env["COE_TIERS_DDR_BYTES"] = str(options.ddr_bytes)
    http_port = take_port(options.gateway_http_port) if options.gateway_http_port else 0

    metrics_ports = count(metrics_port) if metrics_port else repeat(0)

    def spec(name: str, package: str, env: Mapping[str, str], preferred: int | None = None) -> ServiceSpec:
        own = {"COE_METRICS_PORT": str(next(metrics_ports))}
        return ServiceSpec(name, package, take_port(preferred), {**common, **own, **env})

    # In start order, which assigns the metrics ports.
    tiers = spec("memory-tier-manager", "memory_tier_manager", tiers_env)
    router, mapper = spec("router", "router", {}), spec("mapper", "mapper", {})
    worker_env = {"COE_WORKER_TIER_MANAGER": tiers.address}
    workers = tuple(
        spec(name, "expert_worker", {**worker_env, "COE_WORKER_ID": name})
        for name in (f"expert-worker-{number}" for number in range(options.workers))
    )
    gateway = spec("gateway", "gateway", {"COE_GATEWAY_HTTP_PORT": str(http_port)}, options.gateway_port)
    http = f"127.0.0.1:{http_port}" if http_port else ""
    return Plan(stages=((tiers, router, mapper), workers, (gateway,)), gateway=gateway.address, gateway_http=http)
