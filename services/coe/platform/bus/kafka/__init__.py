"""The event bus on Apache Kafka (aiokafka)."""

from coe.platform.bus.kafka.bus import KafkaBus

__all__ = ["KafkaBus"]
