"""The event bus in memory, for tests: the same contract as on Kafka, within one event loop."""

from coe.platform.bus.memory.broker import MemoryBroker
from coe.platform.bus.memory.bus import MemoryBus

__all__ = ["MemoryBroker", "MemoryBus"]
