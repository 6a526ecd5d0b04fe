"""The bus contract on real Kafka."""

from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaProducer

from coe.platform.bus.api import Bus, TopicSpec
from coe.platform.bus.kafka import KafkaBus
from contract.bus_suite import BusSuite
from contract.bus_world import world  # noqa: F401

pytestmark = pytest.mark.kafka


class KafkaCluster:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._specs: Sequence[TopicSpec] = ()
        self._buses: list[KafkaBus] = []

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        self._specs = specs

    async def bus(self) -> Bus:
        bus = KafkaBus(self._bootstrap, source="coe/test", start_timeout_s=30, ensure=self._specs)
        self._buses.append(bus)
        await bus.start()
        return bus

    async def produce(
        self, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap) as producer:
            await producer.send_and_wait(topic, value, key, headers=headers)

    async def stop(self) -> None:
        for bus in self._buses:
            await bus.stop()


@pytest.fixture
async def cluster(kafka_bootstrap: str) -> AsyncIterator[KafkaCluster]:
    cluster = KafkaCluster(kafka_bootstrap)
    yield cluster
    await cluster.stop()


class TestKafkaBus(BusSuite):
    pass
