"""Settings of the gateway, from COE_GATEWAY_* environment variables."""

from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """`http_port` 0 leaves the HTTP API out."""

    model_config = SettingsConfigDict(env_prefix="COE_GATEWAY_", frozen=True, extra="ignore")

    http_host: str = "127.0.0.1"
    http_port: int = 0
    # What the HTTP API serves and our clients expect. "mutual": callers need a certificate that COE_TLS_CA signed.
    http_tls: Literal["off", "server", "mutual"] = "off"
    # A prompt whose client names no deadline gets this one.
    default_deadline_s: float = 120.0
    # Prompts followed at once; more are refused with CapacityExceeded.
    max_streams: int = 10_000
