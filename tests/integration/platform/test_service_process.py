"""A service process without its broker waits, says so, and serves when it has come. Its metrics can be read."""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coe.local.kafka import KafkaNode, KafkaServer
from coe.local.ports import free_port

pytestmark = pytest.mark.kafka
SCRIPT = Path(__file__).with_name("service_process.py")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def service(**environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), env=os.environ | environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_health(address: str, wanted: int) -> None:
    async with asyncio.timeout(60), grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        while (await stub.Check(request, wait_for_ready=True)).status != wanted:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)


async def test_health_follows_the_broker_and_metrics_are_served(tmp_path: Path) -> None:
    node = KafkaNode(node_id=1, port=free_port(), voters={1: free_port()})
    address, metrics = f"127.0.0.1:{free_port()}", free_port()
    environment = {
        "COE_KAFKA_BOOTSTRAP": node.bootstrap,
        "COE_GRPC_PORT": address.rpartition(":")[2],
        "COE_METRICS_PORT": str(metrics),
    }
    async with service(**environment) as process:
        await until_health(address, NOT_SERVING)
        assert serving(await fetched(metrics)) == 0
        async with KafkaServer(tmp_path / "kafka", node):
            await until_health(address, SERVING)
            page = await fetched(metrics)
            assert serving(page) == 1
            assert 'coe_prompt_errors_total{error_type="probe"' in page
            assert 'service_name="coe-probe"' in page
            assert f'service_version="{metadata.version("composition-of-experts")}"' in page
        await until_health(address, NOT_SERVING)
        assert serving(await fetched(metrics)) == 0
        process.terminate()
        assert await process.wait() == 0


async def fetched(port: int) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text


def serving(page: str) -> float:
    """As alerts see it."""
    (line,) = re.findall(r'^coe_service_serving\{.*coe_service_name="probe".*\} (\S+)$', page, re.MULTILINE)
    return float(line)


async def test_a_port_for_metrics_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), env=os.environ | {"COE_METRICS_PORT": port}, stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    (line,) = said.decode().splitlines()
    assert json.loads(line)["reason"] == f"COE_METRICS_PORT: 127.0.0.1:{port} can't be bound: Address already in use"
