"""Settings of the gateway, from COE_GATEWAY_* environment variables."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import Port, Settings


class GatewaySettings(Settings):
    """The gateway's settings, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="COE_GATEWAY_")

    # Address the HTTP API listens on.
    http_host: str = "127.0.0.1"
    # 0: no HTTP API.
    http_port: Port = 0
    # TLS of the HTTP API. "mutual": callers need a certificate signed by COE_TLS_CA.
    http_tls: Literal["off", "server", "mutual"] = "off"
    # YAML file with `TENANT: KEY` or `TENANT: [KEY, ...]` per line, reloaded when it changes. Callers must present one
    # of these keys. Without a file anyone may call, and callers name their own tenant.
    api_keys_file: Path | None = None
    # Origins whose web pages may call the HTTP API, comma-separated; "*" for all.
    cors_origins: str = ""
    # Deadline, in seconds, of prompts whose client names none.
    default_deadline_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    # Maximum deadline, in seconds.
    max_deadline_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    # Seconds for which the head of a streamed HTTP answer waits for the first text once the prompt has its expert, so
    # that errors until then have their own status.
    hold_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    # A request id that is used again within this many seconds of its terminal event gets the same event again, as long
    # as the gateway remembers it (32 MiB). 0: it is submitted again. Change it together with COE_ROUTER_DUPLICATES_S:
    # an id that only the router remembers is dropped there, and its caller waits until the deadline.
    duplicates_s: float = Field(default=600.0, ge=0, allow_inf_nan=False)
    # Maximum number of prompts followed at once; more are refused with CapacityExceeded.
    max_streams: int = Field(default=10_000, ge=1)
    # The same per tenant. 0: no separate limit.
    max_streams_per_tenant: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _deadlines_fit(self) -> Self:
        if self.default_deadline_s > self.max_deadline_s:
            raise ValueError("COE_GATEWAY_DEFAULT_DEADLINE_S is above COE_GATEWAY_MAX_DEADLINE_S")
        return self

    def deadline_s(self, asked: float | None) -> float:
        """Seconds granted to a prompt whose client asked for `asked` seconds, or for none."""
        return min(asked or self.default_deadline_s, self.max_deadline_s)
