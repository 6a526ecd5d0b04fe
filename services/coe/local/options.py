"""What the embedded stack consists of, from COE_STACK_* environment variables or arguments."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import LogLevel, Port, Settings


class StackOptions(Settings):
    """Servers that COE_KAFKA_BOOTSTRAP or COE_REDIS_URL name are used instead of started."""

    model_config = SettingsConfigDict(env_prefix="COE_STACK_")

    # COE_HOME when not given, which is where the other commands look for it.
    home: Path | None = None
    # Expert workers.
    workers: int = Field(default=1, ge=1, le=64)
    # Bundles of the packaged expert to host when COE_HOME has none: the original and copies under names of their own.
    replicas: int = Field(default=5, ge=1, le=1024)
    # Bytes of the HBM tier. None: room for three of the largest expert hosted.
    hbm_bytes: int | None = Field(default=None, ge=2 * 2**20)
    # Bytes of the DDR tier. None: the memory-tier manager's own default.
    ddr_bytes: int | None = Field(default=None, ge=1)
    # Where the gateway serves gRPC. While nobody named it, a free one is taken when somebody listens there.
    gateway_port: Port = 7000
    # The same of its HTTP API. 0: none.
    gateway_http_port: Port = 8080
    # Seconds that one server may take to start. Generous: the first start on a small machine reads cold files.
    start_timeout_s: float = Field(default=120.0, gt=0)
    # Seconds between asking a service to end and ending it by force.
    grace_s: float = Field(default=15.0, ge=0)
    # Of the services.
    log_level: LogLevel = "INFO"
