"""The embedded broker, for real: transactions work, data survive a restart, a failed start says why."""

from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from coe.local.kafka import KafkaNode, KafkaServer
from coe.local.ports import free_port
from coe.platform.bus.kafka.client import closing, stop_producer
from coe.platform.errors import Unavailable

pytestmark = pytest.mark.kafka


async def test_transactions_work_and_data_survive_a_restart(tmp_path: Path) -> None:
    node = KafkaNode(node_id=1, port=free_port(), voters={1: free_port()})
    # One id of 64 begins with a dash.
    async with KafkaServer(tmp_path, node, cluster_id="-kDnNjPBQdGbFz7fjYb0bw") as kafka:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("t", num_partitions=2, replication_factor=1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="p")
        async with producer, producer.transaction():
            await producer.send_and_wait("t", b"kept", partition=0)
    async with KafkaServer(tmp_path, node) as kafka:
        consumer = AIOKafkaConsumer(
            "t", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
        )
        async with consumer:
            record = await consumer.getone()
    assert record.value == b"kept"
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_broker_that_was_killed_starts_again(tmp_path: Path) -> None:
    """On other ports, as a stack's. Kafka first waits for the end of the dead one's session."""
    async with KafkaServer(tmp_path) as killed:
        assert killed.child is not None
        killed.child.kill()
        await killed.child.wait()
    async with KafkaServer(tmp_path) as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="p")
        async with producer:
            assert await producer.client.fetch_all_metadata()


async def test_a_transaction_that_a_killed_broker_left_open_is_taken_back(tmp_path: Path) -> None:
    """Though it is overdue when the broker starts again. Else its messages come with the next ones of its id."""
    async with KafkaServer(tmp_path) as killed:
        assert killed.child is not None
        admin = AIOKafkaAdminClient(bootstrap_servers=killed.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("t", num_partitions=1, replication_factor=1)])
        await admin.close()
        left = closing(
            AIOKafkaProducer(bootstrap_servers=killed.bootstrap, transactional_id="p", transaction_timeout_ms=1000)
        )
        await left.start()
        await left.begin_transaction()
        await left.send_and_wait("t", b"left open")
        killed.child.kill()
        await killed.child.wait()
        await stop_producer(left, timeout_s=0)
    async with KafkaServer(tmp_path) as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="p")
        async with producer, producer.transaction():
            await producer.send_and_wait("t", b"committed")
        consumer = AIOKafkaConsumer(
            "t", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
        )
        async with consumer:
            record = await consumer.getone()
    assert record.value == b"committed"


async def test_a_path_of_any_alphabet_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    home = tmp_path / "zu Hause, bei Jürgen" / "コエ"
    async with KafkaServer(home):
        assert (home / "data" / "meta.properties").exists()


def test_a_node_that_can_not_start_says_why(tmp_path: Path) -> None:
    node = KafkaNode(node_id=1, port=free_port(), voters={1: free_port()}, extra={"num.io.threads": "0"})
    with pytest.raises(Unavailable, match=r"num\.io\.threads"), KafkaServer(tmp_path, node):
        pass
