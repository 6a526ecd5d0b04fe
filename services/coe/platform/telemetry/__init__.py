"""OpenTelemetry of every process: providers, names, spans of Kafka and gRPC."""

from coe.platform.telemetry.providers import Telemetry, configure

__all__ = ["Telemetry", "configure"]
