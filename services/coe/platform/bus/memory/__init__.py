"""An in-memory event bus for tests, with the same contract as the Kafka bus, within one event loop."""

from coe.platform.bus.memory.broker import MemoryBroker
from coe.platform.bus.memory.bus import MemoryBus

__all__ = ["MemoryBroker", "MemoryBus"]
