"""SASL for real: every mechanism lets us in with the right password, and each mistake is one line and an end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coe._proto import events_pb2
from coe.local.doctor.facts import examine_deployment
from coe.local.ports import free_port
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing, Subscription
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable
from support import certificates
from support.sasl import PASSWORD, USER, SaslKafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
WRONG = "open barley"


async def submit_and_answer(bootstrap: str, name: str) -> None:
    """Everything that clients do: topics, an idempotent and a transactional producer, a group, a tail."""
    bus = KafkaBus(bootstrap, source="coe/test", start_timeout_s=30)
    await bus.start()

    async def work() -> None:
        async with bus.parallel(Subscription(topics.PROMPTS, f"coe-{name}")) as consumer:
            async for record in consumer:
                completed = events_pb2.PromptCompleted(request_id=name)
                await consumer.complete(record, Outcome((Outgoing(topics.COMPLETIONS, name, completed),)))

    working = asyncio.create_task(work())
    try:
        async with bus.tail([topics.COMPLETIONS]) as records:
            prompt = events_pb2.PromptSubmitted(request_id=name, prompt="hello")
            await bus.publisher.publish(Outgoing(topics.PROMPTS, name, prompt))
            async with asyncio.timeout(60):
                assert (await anext(records)).key == name.encode()
        assert await bus.healthy()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await bus.stop()


async def refusal(bootstrap: str) -> str:
    """Long before the start would be given up."""
    bus = KafkaBus(bootstrap, source="coe/test", start_timeout_s=None)
    with pytest.raises(Unavailable) as raised:
        async with asyncio.timeout(60):
            await bus.start()
    return raised.value.message


async def test_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    made = certificates.make(tmp_path / "certificates")
    async with SaslKafka(tmp_path / "kafka", made) as broker:
        assert "it asks who we are: set COE_KAFKA_SASL_MECHANISM to one of PLAIN, SCRAM" in await refusal(broker.sasl)
        monkeypatch.setenv("COE_KAFKA_SASL_USERNAME", USER)
        monkeypatch.setenv("COE_KAFKA_SASL_PASSWORD", PASSWORD)
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            monkeypatch.setenv("COE_KAFKA_SASL_MECHANISM", mechanism)
            await submit_and_answer(broker.sasl, f"{mechanism}-plain".lower())
        assert "it asks for no SASL there: unset COE_KAFKA_SASL_*" in await refusal(broker.plain)
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        with monkeypatch.context() as encrypted:
            encrypted.setenv("COE_KAFKA_SECURITY", "SSL")
            encrypted.setenv("COE_TLS_CA", made.environment["COE_TLS_CA"])
            encrypted.delenv("COE_KAFKA_SASL_PASSWORD")
            encrypted.setenv("COE_KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "password"))
            await submit_and_answer(broker.sasl_tls, "encrypted")
            (tmp_path / "password").write_text(WRONG)
            why = await refusal(broker.sasl_tls)
            assert f"COE_KAFKA_SASL_USERNAME ({USER}) or COE_KAFKA_SASL_PASSWORD_FILE is wrong (SCRAM-SHA-512: " in why
        monkeypatch.setenv("COE_KAFKA_SASL_PASSWORD", WRONG)
        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            monkeypatch.setenv("COE_KAFKA_SASL_MECHANISM", mechanism)
            why = await refusal(broker.sasl)
            assert f"{broker.sasl}: it does not let us in: COE_KAFKA_SASL_USERNAME ({USER})" in why
        await doctor_says(broker.sasl, f"does not let us in: COE_KAFKA_SASL_USERNAME ({USER})")
        service_ends(broker.sasl, f"COE_KAFKA_SASL_USERNAME ({USER}) or COE_KAFKA_SASL_PASSWORD is wrong")
    for secret in (PASSWORD, WRONG):
        assert secret not in caplog.text


async def doctor_says(bootstrap: str, expected: str) -> None:
    checks = await examine_deployment(bootstrap, f"redis://127.0.0.1:{free_port()}", {})
    (kafka,) = [check for check in checks if check.name == "Kafka"]
    assert expected in kafka.found
    assert WRONG not in kafka.found


def service_ends(bootstrap: str, expected: str) -> None:
    """A whole process: one error, exit status 1, no password anywhere."""
    environment = {**os.environ, "COE_KAFKA_BOOTSTRAP": bootstrap, "COE_GRPC_PORT": "0", "COE_LOG_LEVEL": "DEBUG"}
    script = Path(__file__).with_name("service_process.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert [expected in line for line in done.stderr.splitlines() if "the service ended" in line] == [True]
    assert WRONG not in done.stdout + done.stderr
