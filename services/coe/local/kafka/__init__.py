"""Runs Apache Kafka from its Maven artifacts on the installed Java, as one KRaft node or several."""

from coe.local.kafka.config import KafkaNode
from coe.local.kafka.server import KafkaServer

__all__ = ["KafkaNode", "KafkaServer"]
