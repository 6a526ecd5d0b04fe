"""The options of the embedded stack, from COE_STACK_* environment variables or arguments."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import LogLevel, Port, Settings


class StackOptions(Settings):
    """If COE_KAFKA_BOOTSTRAP or COE_REDIS_URL is set, that server is used and none is started."""

    model_config = SettingsConfigDict(env_prefix="COE_STACK_")

    # None: COE_HOME, which is where the other commands look.
    home: Path | None = None
    # Number of expert workers.
    workers: int = Field(default=1, ge=1, le=64)
    # Number of bundles of the packaged expert to create if COE_HOME has none: the original and copies under their own
    # names.
    replicas: int = Field(default=5, ge=1, le=1024)
    # Size of the HBM tier in bytes. None: room for three of the largest hosted expert.
    hbm_bytes: int | None = Field(default=None, ge=2 * 2**20)
    # Size of the DDR tier in bytes. None: the memory-tier manager's default.
    ddr_bytes: int | None = Field(default=None, ge=1)
    # Port of the gateway's gRPC server. Unless set explicitly, a free port is used if this one is taken.
    gateway_port: Port = 7000
    # The same for its HTTP API. 0: none.
    gateway_http_port: Port = 8080
    # Seconds that each server may take to start. Generous, because the first start on a small machine reads cold
    # files.
    start_timeout_s: float = Field(default=120.0, gt=0)
    # Seconds between asking a service to stop and killing it.
    grace_s: float = Field(default=15.0, ge=0)
    # Log level of the services.
    log_level: LogLevel = "INFO"
