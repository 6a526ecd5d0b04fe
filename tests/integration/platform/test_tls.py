"""TLS for real: a broker, a Redis-protocol server behind a terminator, and gRPC, with certificates of one authority."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from coe._proto import events_pb2
from coe._proto import memory_tier_manager_pb2 as pb
from coe.local import probe
from coe.local.kafka import KafkaServer
from coe.local.ports import free_port
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import ArtifactError, Unavailable
from coe.platform.residency import ResidencyPublisher, ResidencyReader
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from coe.platform.tls import TlsSettings
from support import certificates
from support.certificates import Certificates
from support.deadlines import until
from support.encrypted import kafka_node, terminator


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def trusted(made: Certificates, monkeypatch: pytest.MonkeyPatch, no_settings_from_outside: None) -> None:
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.kafka
async def test_kafka(made: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, encrypted = free_port(), free_port()
    node = kafka_node(made, plain, encrypted)
    async with KafkaServer(tmp_path, node):
        monkeypatch.setenv("COE_KAFKA_SECURITY", "SSL")
        bus = KafkaBus(f"127.0.0.1:{encrypted}", source="test", start_timeout_s=30)
        await bus.start()
        try:
            async with bus.tail([topics.PROMPTS]) as records:
                prompt = events_pb2.PromptSubmitted(request_id="1", prompt="hello")
                await bus.publisher.publish(Outgoing(topics.PROMPTS, "1", prompt))
                async with asyncio.timeout(30):
                    assert (await anext(records)).key == b"1"
        finally:
            await bus.stop()
        stranger = KafkaBus(f"127.0.0.1:{encrypted}", source="test", start_timeout_s=3)
        with monkeypatch.context() as trusting_others:
            others = certificates.make(tmp_path / "others")
            trusting_others.setenv("COE_TLS_CA", others.environment["COE_TLS_CA"])
            with pytest.raises(Unavailable, match=r"no connection to a Kafka broker: .*certificate is not signed"):
                await stranger.start()
        with monkeypatch.context() as unasked:
            unasked.setenv("COE_KAFKA_SECURITY", "PLAINTEXT")
            with pytest.raises(Unavailable, match=r"it speaks TLS only: set COE_KAFKA_SECURITY=SSL"):
                await stranger.start()
        misled = KafkaBus(f"127.0.0.1:{plain}", source="test", start_timeout_s=3)
        with pytest.raises(Unavailable, match=r"Kafka broker: .*it closes the connection when TLS begins"):
            await misled.start()
        monkeypatch.delenv("COE_TLS_CERT")
        monkeypatch.delenv("COE_TLS_KEY")
        with pytest.raises(Unavailable, match=r"it asks for a certificate: set COE_TLS_CERT"):
            await stranger.start()


@pytest.mark.valkey
async def test_redis(made: Certificates, redis_url: str) -> None:
    plain = int(redis_url.rsplit(":", 1)[1].partition("/")[0])
    async with terminator(made, plain) as port:
        url = f"rediss://localhost:{port}/0"
        reader = ResidencyReader(url, max_age_s=0)
        async with ResidencyPublisher(url, "tls", 1) as publisher:
            publisher.publish(pb.ExpertResidency(expert_id="x", tier=pb.TIER_HBM))

            async def there() -> bool:
                return "tls" in (await reader.snapshot()).nodes

            await until(there)
        await reader.close()


async def test_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_GRPC_TLS", "mutual")
    endpoint = Endpoint(GrpcSettings())
    await endpoint.start([])
    try:
        await endpoint.set_serving(True)
        assert await probe.serves(endpoint.address)
        monkeypatch.delenv("COE_TLS_CERT")
        monkeypatch.delenv("COE_TLS_KEY")
        assert not await probe.serves(endpoint.address), "a caller without certificate is let in"
        monkeypatch.setenv("COE_GRPC_TLS", "off")
        assert not await probe.serves(endpoint.address), "a caller without TLS is let in"
    finally:
        await endpoint.stop()


@pytest.mark.parametrize("server", [TlsSettings.server_context, TlsSettings.server_credentials])
def test_who_asks_for_certificates_trusts_somebody(
    server: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COE_TLS_CA")
    with pytest.raises(ArtifactError, match="asks callers for a certificate needs COE_TLS_CA"):
        server(TlsSettings(), mutual=True)


async def test_a_server_needs_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_GRPC_TLS", "server")
    monkeypatch.setenv("COE_TLS_KEY", "/nowhere")
    with pytest.raises(ArtifactError, match="/nowhere"):
        await Endpoint(GrpcSettings()).start([])
