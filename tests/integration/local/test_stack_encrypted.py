"""The embedded stack with everything encrypted: an answer comes back over a broker and a Redis that ask for TLS."""

from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coe._proto import common_pb2, events_pb2
from coe.client.events import Completed
from coe.client.prompts import PromptClient
from coe.local import probe
from coe.local.kafka import KafkaServer
from coe.local.options import StackOptions
from coe.local.ports import free_port
from coe.local.stack import Stack
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable
from coe.platform.residency import ResidencyReader
from support import certificates
from support.encrypted import kafka_node, terminator


@pytest.mark.kafka
@pytest.mark.valkey
@pytest.mark.model
@pytest.mark.stack
async def test_a_prompt_is_answered(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificates.make(tmp_path / "certificates")
    encrypted = free_port()
    broker = KafkaServer(tmp_path / "kafka", kafka_node(made, free_port(), encrypted))
    redis_port = urlsplit(redis_url).port
    assert redis_port is not None
    async with broker, terminator(made, redis_port) as port:
        url = f"rediss://localhost:{port}/0"
        settings = {
            "COE_KAFKA_BOOTSTRAP": f"localhost:{encrypted}",
            "COE_KAFKA_SECURITY": "SSL",
            "COE_REDIS_URL": url,
            "COE_GRPC_TLS": "mutual",
            "COE_GATEWAY_HTTP_TLS": "mutual",
            "COE_NODE": "encrypted",
        }
        for name, value in (settings | made.environment).items():
            monkeypatch.setenv(name, value)
        options = StackOptions(home=tmp_path / "home", replicas=1, gateway_port=0, gateway_http_port=free_port())
        async with Stack(options) as stack:
            assert await answer(stack.kafka_bootstrap)
            reader = ResidencyReader(url, max_age_s=0)
            assert "encrypted" in (await reader.snapshot()).nodes
            await reader.close()
            assert await probe.serves(stack.info.gateway)
            monkeypatch.setenv("COE_GRPC_TLS", "off")
            assert not await probe.serves(stack.info.gateway), "a caller without TLS is let in"
        monkeypatch.setenv("COE_KAFKA_SECURITY", "PLAINTEXT")
        with pytest.raises(Unavailable, match="it speaks TLS only: set COE_KAFKA_SECURITY=SSL"):
            async with Stack(options):
                pytest.fail("it serves without TLS")


async def answer(bootstrap: str) -> str:
    prompt = events_pb2.PromptSubmitted(
        prompt="What is the derivative of x^2?", sampling=common_pb2.SamplingParams(max_tokens=8)
    )
    bus = KafkaBus(bootstrap, source="test", start_timeout_s=30)
    await bus.start()
    try:
        async with PromptClient(bus) as client, aclosing(client.submit(prompt, timeout_s=60)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    return event.result.completion.text
    finally:
        await bus.stop()
    return ""
