"""Settings that every process reads, from COE_* environment variables, parsed once at the edge."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CoreSettings(BaseSettings):
    """Addresses and habits that all processes share. Each service adds its own with its own prefix."""

    model_config = SettingsConfigDict(env_prefix="COE_", frozen=True, extra="ignore")

    kafka_bootstrap: str = "127.0.0.1:9092"
    # "SSL": encrypted, with the certificates of COE_TLS_* (platform/tls.py).
    kafka_security: Literal["PLAINTEXT", "SSL"] = "PLAINTEXT"
    # Also `redis+cluster://`, `redis+sentinel://`, and `rediss` in place of `redis` (platform/residency/connection.py).
    redis_url: str = "redis://127.0.0.1:6379/0"
    # Experts, artifacts that were trained here, downloaded servers.
    home: Path = Path.home() / ".local" / "share" / "coe"
    # A name for this machine in residency and telemetry; processes that share memory share it.
    node: str = "node-0"
    log_level: str = "INFO"
    # "json": one object a line. "console": for eyes.
    log_format: Literal["json", "console"] = "json"
    # OTLP over gRPC. Empty: nothing is exported.
    otlp_endpoint: str = ""
    # Most traces that are begun in a second when there is somewhere to export them to.
    traces_per_s: float = Field(default=10.0, gt=0)
    # Spans as JSON lines, appended to this file. Several processes may share it.
    trace_file: Path | None = None
    # Prometheus metrics over HTTP. 0: off.
    metrics_port: int = 0
    # Most bytes of prompt text that any part accepts.
    max_prompt_bytes: int = 256 * 1024

    @property
    def experts_dir(self) -> Path:
        return self.home / "experts"


class GrpcSettings(BaseSettings):
    """Where a service listens. `port` 0 takes a free one."""

    model_config = SettingsConfigDict(env_prefix="COE_GRPC_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = 0
    # What this process serves and how it calls others. "mutual": callers need a certificate that COE_TLS_CA signed.
    tls: Literal["off", "server", "mutual"] = "off"
    # Seconds that calls under way get at shutdown.
    grace_s: float = 10.0
    # Written once the port is bound: "host:port" in one line. For whoever starts services on port 0.
    ready_file: Path | None = None
