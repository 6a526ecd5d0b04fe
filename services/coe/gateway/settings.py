"""Settings of the gateway, from COE_GATEWAY_* environment variables."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import Port, Settings


class GatewaySettings(Settings):
    """`http_port` 0 leaves the HTTP API out."""

    model_config = SettingsConfigDict(env_prefix="COE_GATEWAY_")

    # Where the HTTP API listens.
    http_host: str = "127.0.0.1"
    # 0: no HTTP API.
    http_port: Port = 0
    # What the HTTP API serves and our clients expect. "mutual": callers need a certificate that COE_TLS_CA signed.
    http_tls: Literal["off", "server", "mutual"] = "off"
    # `TENANT: KEY` or `TENANT: [KEY, ...]` a line, YAML, read again when it changes: callers show one of these keys.
    # Without a file everybody may call, and says of himself which tenant he is.
    api_keys_file: Path | None = None
    # Web pages of these origins (commas between them, "*" for all) may call the HTTP API.
    cors_origins: str = ""
    # A prompt whose client names no deadline gets this one, in seconds.
    default_deadline_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    # No prompt gets a longer one.
    max_deadline_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    # Seconds that the head of a streamed HTTP answer waits for the first text, once the prompt has its expert: an error
    # until then has its own status.
    hold_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    # A request id that comes again within so many seconds after its terminal event has that event again, as far as the
    # gateway remembers (32 MiB). 0: it is submitted again. Set it with COE_ROUTER_DUPLICATES_S: an id that the router
    # alone remembers is dropped there, and who asked waits until the deadline.
    duplicates_s: float = Field(default=600.0, ge=0, allow_inf_nan=False)
    # Prompts followed at once; more are refused with CapacityExceeded.
    max_streams: int = Field(default=10_000, ge=1)
    # Those of one tenant. 0: as many as of all.
    max_streams_per_tenant: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _deadlines_fit(self) -> Self:
        if self.default_deadline_s > self.max_deadline_s:
            raise ValueError("COE_GATEWAY_DEFAULT_DEADLINE_S is above COE_GATEWAY_MAX_DEADLINE_S")
        return self

    def deadline_s(self, asked: float | None) -> float:
        """Seconds that a prompt gets whose client asks for so many, or for none."""
        return min(asked or self.default_deadline_s, self.max_deadline_s)
