"""The doctor on real servers: before and after the topics are there, and on a Redis cluster."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grpc.aio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from redis.asyncio import Redis

from coe._proto import events_pb2
from coe._proto import memory_tier_manager_pb2 as pb
from coe.local.doctor.check import Level
from coe.local.doctor.facts import examine_deployment
from coe.local.kafka import KafkaServer
from coe.local.valkey import ValkeyServer
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing, Subscription
from coe.platform.bus.kafka import KafkaBus
from coe.platform.residency import ResidencyPublisher
from support import redis_clusters
from support.deadlines import until

pytestmark = [pytest.mark.kafka, pytest.mark.valkey]


async def test_a_new_broker_and_a_cluster(tmp_path: Path) -> None:
    async with KafkaServer(tmp_path / "kafka") as kafka, redis_clusters.cluster(tmp_path / "redis") as redis:
        missing = {
            check.name: check for check in await examine_deployment(kafka.bootstrap, redis.url, {"x": "127.0.0.1:1"})
        }
        assert missing["topic coe.prompts.v1"].level is Level.PROBLEM
        assert missing["x"].level is Level.PROBLEM
        assert missing["Redis"].level is Level.GOOD
        assert "cluster" in missing["Redis"].found
        assert missing["Redis cluster"].level is Level.GOOD
        # As a producer that comes before the services makes it, where the broker makes topics by itself.
        await _made(kafka.bootstrap, NewTopic(topics.COMPLETIONS, num_partitions=8, replication_factor=1))
        bus = KafkaBus(kafka.bootstrap, source="test", start_timeout_s=30)
        await bus.start()
        for number in range(3):
            prompt = events_pb2.PromptSubmitted(request_id=str(number), prompt="hello")
            await bus.publisher.publish(Outgoing(topics.PROMPTS, str(number), prompt))
        # Of three prompts in the hands of a worker the first one goes on, and holds the committed offset.
        for number in range(3):
            assigned = events_pb2.PromptAssigned(prompt=events_pb2.PromptSubmitted(request_id=str(number)))
            await bus.publisher.publish(Outgoing(topics.ASSIGNMENTS, "expert#0", assigned, partition=0))
        async with bus.parallel(Subscription(topics.ASSIGNMENTS, "coe-expert-worker")) as taken:
            _, *others = [await anext(aiter(taken)) for _ in range(3)]
            for record in others:
                assert await taken.complete(record, Outcome())
        await bus.stop()
        found = {check.name: check for check in await examine_deployment(kafka.bootstrap, redis.url, {})}
        assert found["topic coe.prompts.v1"].level is Level.GOOD
        assert found["topic coe.completions.v1"].level is Level.PROBLEM
        assert found["topic coe.completions.v1"].fix.endswith("max.message.bytes=2097152")
        assert found["topic __transaction_state"].level is Level.GOOD
        assert found["Kafka brokers"].level is Level.WARNING
        assert found["group coe-router"].level is Level.PROBLEM
        assert found["group coe-router"].found == "0 members, 3 records of coe.prompts.v1 unprocessed"
        assert found["group coe-mapper"].level is Level.WARNING
        assert found["group coe-expert-worker"].found == "0 members, 1 records of coe.assignments.v1 unprocessed"


async def _made(bootstrap: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([topic])
    await admin.close()


def test_the_command_when_nothing_is_there() -> None:
    env = {**os.environ, "COE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "COE_REDIS_URL": "redis://127.0.0.1:1/0"}
    command = [Path(sys.executable).with_name("coe"), "doctor", "--deploy", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 1
    levels = {line["name"]: line["level"] for line in map(json.loads, done.stdout.splitlines())}
    assert levels["Kafka"] == "problem"
    assert levels["Redis"] == "warning"


async def test_shared_memory_is_held_against_the_tier_that_runs(redis_url: str) -> None:
    more = 2 * shutil.disk_usage("/dev/shm").total
    async with ResidencyPublisher(redis_url, "large", 1) as publisher:
        publisher.publish_usage(pb.TierUsage(tier=pb.TIER_HBM, capacity_bytes=more))

        async def is_a_problem() -> bool:
            checks = await examine_deployment("127.0.0.1:1", redis_url, {}, "large")
            (shared,) = [check for check in checks if check.name == "/dev/shm"]
            return shared.level is Level.PROBLEM and "as reported by large" in shared.found

        await until(is_a_problem)


async def test_a_service_that_says_no_is_told_from_one_that_says_nothing() -> None:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer := health.aio.HealthServicer(), server)
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    nobody = "127.0.0.1:1"
    checks = await examine_deployment(nobody, f"redis://{nobody}/0", {"says no": address, "gone": nobody})
    await server.stop(None)
    found = {check.name: check.found for check in checks}
    assert found["says no"] == f"not serving: {address} reports that it is not serving"
    assert found["gone"] == f"not serving: no answer from {nobody}"


async def test_a_redis_that_can_only_be_read_is_told(tmp_path: Path) -> None:
    """As one whose memory is full: else managers that run would be said to publish nothing."""
    async with ValkeyServer(tmp_path) as server:
        async with Redis.from_url(server.url) as client:
            await client.config_set("maxmemory", "1")
        checks = await examine_deployment("127.0.0.1:1", server.url, {})
    (found,) = [check for check in checks if check.name == "Redis"]
    assert found.level is Level.WARNING
    assert "rejects writes: OutOfMemoryError" in found.found
    assert not [check for check in checks if check.name.startswith("nodes")]
