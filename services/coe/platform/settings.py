"""Settings shared by all processes, read from COE_* environment variables."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError


class Settings(BaseSettings):
    """The base of all settings. An invalid value exits the process with one line that names the variable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = self._variable(str(first["loc"][0] if first["loc"] else "*"))
            # Omits the value, which may be a password.
            raise SystemExit(f"coe: {name}: {first['msg'].removeprefix('Value error, ')}") from None
        except SettingsError as error:
            # Raised only for lists. The library names the field only in its message.
            field = re.search(r'field "(\w+)"', str(error))
            name = self._variable(field[1] if field else "*")
            raise SystemExit(f"""coe: {name}: a JSON list is wanted, as ["a", "b"]""") from None

    @model_validator(mode="before")
    @classmethod
    def _without_empty_paths(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Treats an empty path as unset rather than as the current directory."""
        return {name: value for name, value in given.items() if value != "" or not cls._is_path(name)}

    @classmethod
    def _is_path(cls, field: str) -> bool:
        kind = cls.model_fields[field].annotation if field in cls.model_fields else None
        return Path in (kind, *get_args(kind))

    @classmethod
    def _variable(cls, field: str) -> str:
        return f"{cls.model_config['env_prefix']}{field}".upper()


def brokers(text: str) -> str:
    """Validates a list of broker addresses and returns it unchanged. Raises ValueError."""
    for address in text.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError("must be HOST:PORT, or several, comma-separated")
    return text


def _redis(url: str) -> str:
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    known = re.fullmatch(r"rediss?(\+cluster|\+sentinel)?", parts.scheme)
    if not known or not all(re.fullmatch(r"(\[.+\]|[^:]+)(:\d+)?", host.strip()) for host in hosts):
        raise ValueError("must be redis://HOST:PORT/DB, redis+cluster:// or redis+sentinel://")
    if known[1] == "+sentinel" and not parts.path.strip("/"):
        raise ValueError("must be redis+sentinel://HOST:PORT/MASTER")
    return url


Port = Annotated[int, Field(ge=0, lt=2**16)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)]


def _home() -> Path:
    return Path.home() / ".local" / "share" / "coe"


class CoreSettings(Settings):
    """Settings shared by all processes. Each service adds its own, with its own prefix."""

    model_config = SettingsConfigDict(env_prefix="COE_")

    # HOST:PORT, or several, comma-separated.
    kafka_bootstrap: Annotated[str, AfterValidator(brokers)] = "127.0.0.1:9092"
    # "SSL": TLS with the certificates of COE_TLS_* (platform/tls.py). For authentication see platform/sasl.py.
    kafka_security: Literal["PLAINTEXT", "SSL"] = "PLAINTEXT"
    # Also `redis+cluster://` and `redis+sentinel://`, with `rediss` instead of `redis` for TLS
    # (platform/residency/connection.py).
    redis_url: Annotated[str, AfterValidator(_redis)] = "redis://127.0.0.1:6379/0"
    # Experts, and artifacts trained on this machine.
    home: Path = Field(default_factory=_home)
    # Name of this machine in residency and telemetry; shared by all processes that share its memory.
    node: str = "node-0"
    # Minimum level of log messages.
    log_level: LogLevel = "INFO"
    # "json": one object per line. "console": human-readable.
    log_format: Literal["json", "console"] = "json"
    # OTLP endpoint (gRPC). Empty: nothing is exported.
    otlp_endpoint: str = ""
    # Maximum number of traces started per second, if there is somewhere to export them to.
    traces_per_s: float = Field(default=10.0, gt=0)
    # File to which spans are appended as JSON lines. Several processes may share it.
    trace_file: Path | None = None
    # Port for Prometheus metrics over HTTP. 0: off.
    metrics_port: Port = 0
    # Maximum size of a prompt's text, in every service.
    max_prompt_bytes: int = Field(default=256 * 1024, ge=1)

    @property
    def experts_dir(self) -> Path:
        return self.home / "experts"


class GrpcSettings(Settings):
    """Settings of a service's gRPC server, and of gRPC clients."""

    model_config = SettingsConfigDict(env_prefix="COE_GRPC_")

    # Address the server listens on, also for metrics.
    host: str = "127.0.0.1"
    # 0: any free port.
    port: Port = 0
    # TLS for serving and for calling other services. "mutual": callers need a certificate signed by COE_TLS_CA.
    tls: Literal["off", "server", "mutual"] = "off"
    # Seconds that running calls get at shutdown, including the gateway's HTTP requests.
    grace_s: float = Field(default=10.0, ge=0)
    # Seconds after which clients are asked to reconnect (the gateway's HTTP clients too), so that load balancers can
    # move them to new replicas. Running calls complete. 0: never.
    max_connection_age_s: float = Field(default=0.0, ge=0, le=86_400)
    # File that receives "host:port" in one line once the port is bound, for supervisors that start services on port 0.
    ready_file: Path | None = None
