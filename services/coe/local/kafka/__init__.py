"""Apache Kafka from its Maven artifacts: fetched once, run on the machine's Java, one KRaft node or several."""

from coe.local.kafka.config import KafkaNode
from coe.local.kafka.server import KafkaServer

__all__ = ["KafkaNode", "KafkaServer"]
