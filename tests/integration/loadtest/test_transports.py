"""The generator's ways through a gateway, plain and encrypted, and one clear error for an authority that is wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coe._proto import common_pb2, events_pb2, gateway_pb2_grpc
from coe.client.events import Completed, Event, Text
from coe.client.prompts import PromptClient
from coe.gateway.generate import GatewayServicer
from coe.gateway.keys import ApiKeys
from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.local.ports import free_port
from coe.local.stackfile import StackInfo
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.errors import ExpertNotFound, Unauthenticated, Unavailable
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from loadtest.transports import open_transport
from support import certificates
from support.certificates import Certificates
from support.deadlines import until_true
from support.gateway import http_api
from support.pipeline import EXPERT, pipeline

WAYS = ("grpc", "http")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("others"))


def encrypt(monkeypatch: pytest.MonkeyPatch, made: Certificates, mode: str) -> None:
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COE_GRPC_TLS", mode)
    monkeypatch.setenv("COE_GATEWAY_HTTP_TLS", mode)


@asynccontextmanager
async def gateway(keys: Path | None = None) -> AsyncIterator[StackInfo]:
    """Both doors as the settings say, in front of a pipeline that the test answers."""
    known = ApiKeys(keys)
    known.load()
    async with pipeline(MemoryBroker()) as path:
        bus = MemoryBus(path.bus.broker, source="test/gateway")
        await bus.start()
        async with PromptClient(bus) as prompts:
            endpoint = Endpoint(GrpcSettings(grace_s=1))
            settings = GatewaySettings(default_deadline_s=20, http_port=free_port())
            servicer = GatewayServicer(prompts, keys=known, settings=settings, max_prompt_bytes=1000)
            gateway_pb2_grpc.add_GatewayServicer_to_server(servicer, endpoint.server)
            await endpoint.start(["coe.v1.Gateway"])
            http = HttpServer(http_api(prompts, settings, known), settings)
            serving = asyncio.create_task(http.run_until_cancelled())
            try:
                await until_true(lambda: http.started)
                yield StackInfo("", "", "", endpoint.address, f"127.0.0.1:{http.config.port}")
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await endpoint.stop()
        await bus.stop()


async def asked(way: str, stack: StackInfo, prompt: str, expert: str = "", api_key: str = "") -> list[Event]:
    async with open_transport(way, stack, api_key) as transport:
        sampling = common_pb2.SamplingParams(max_tokens=8)
        submitted = events_pb2.PromptSubmitted(prompt=prompt, expert_id=expert, sampling=sampling)
        return [event async for event in transport.submit(submitted, timeout_s=20)]


def check(events: list[Event]) -> None:
    assert "".join(event.text for event in events if isinstance(event, Text)) == "hello"
    assert isinstance(last := events[-1], Completed)
    assert last.result.assignment.expert_id == EXPERT
    assert last.result.usage.completion_tokens == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["off", "server", "mutual"])
async def test_answers(monkeypatch: pytest.MonkeyPatch, made: Certificates, way: str, mode: str) -> None:
    encrypt(monkeypatch, made, mode)
    async with gateway() as stack:
        check(await asked(way, stack, "olleh"))


@pytest.mark.parametrize("way", WAYS)
async def test_a_prompt_that_fails_keeps_its_code(way: str) -> None:
    async with gateway() as stack:
        with pytest.raises(ExpertNotFound, match="missing"):
            await asked(way, stack, "hello", expert="missing")


@pytest.mark.parametrize("way", WAYS)
async def test_a_wrong_authority_is_one_error_before_the_load(
    monkeypatch: pytest.MonkeyPatch, made: Certificates, other: Certificates, way: str
) -> None:
    encrypt(monkeypatch, made, "server")
    async with gateway() as stack:
        monkeypatch.setenv("COE_TLS_CA", other.environment["COE_TLS_CA"])
        with pytest.raises(Unavailable, match=r"no gateway answers at .*CERTIFICATE_VERIFY_FAILED"):
            await asked(way, stack, "olleh")


@pytest.mark.parametrize("way", WAYS)
async def test_mutual_lets_no_stranger_in(monkeypatch: pytest.MonkeyPatch, made: Certificates, way: str) -> None:
    encrypt(monkeypatch, made, "mutual")
    async with gateway() as stack:
        monkeypatch.delenv("COE_TLS_CERT")
        monkeypatch.delenv("COE_TLS_KEY")
        with pytest.raises(Unavailable, match="no gateway answers"):
            await asked(way, stack, "olleh")


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_that_is_not_known_is_one_error_before_the_load(tmp_path: Path, way: str) -> None:
    (keys := tmp_path / "keys.yaml").write_text("somebody: secret\n")
    async with gateway(keys) as stack:
        check(await asked(way, stack, "olleh", api_key="secret"))
        for wrong in ("", "guessed"):
            with pytest.raises(Unauthenticated, match="key"):
                async with open_transport(way, stack, wrong):
                    pytest.fail("the load would start")
