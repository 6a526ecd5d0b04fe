"""The bus contract in memory."""

from collections.abc import Sequence

import pytest

from coe.platform.bus.api import Bus, TopicSpec
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.bus.messages import Message
from contract.bus_suite import BusSuite
from contract.bus_world import world  # noqa: F401


class MemoryCluster:
    def __init__(self) -> None:
        self._broker = MemoryBroker()

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        for spec in specs:
            self._broker.create(spec.name, spec.partitions)

    async def bus(self) -> Bus:
        return MemoryBus(self._broker)

    async def produce(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        self._broker.append(Message(topic, key, value, list(headers)))


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


class TestMemoryBus(BusSuite):
    pass
