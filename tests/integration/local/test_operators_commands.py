"""`coe dead-letters` and `coe cancel` against a real broker."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Record
from coe.platform.bus.codec import decode
from coe.platform.bus.headers import dead_letter
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import InternalError, UndecodableMessage

pytestmark = pytest.mark.kafka

ASSIGNED = events_pb2.PromptAssigned(prompt=events_pb2.PromptSubmitted(request_id="hangs", prompt="hello"))
LETTERS = (
    (
        Record(topics.ASSIGNMENTS, 3, 7, b"expert#0", ASSIGNED.SerializeToString(), (), 0),
        InternalError("in succession"),
    ),
    (
        Record(topics.PROMPTS, 0, 1, b"a", b"{no json", (("content-type", b"application/json"),), 0),
        UndecodableMessage("x"),
    ),
    (Record(topics.PROMPTS, 0, 2, b"\xff", b"\xff", (), 0), UndecodableMessage("[bold]y")),
)


async def coe(bootstrap: str, *arguments: str) -> str:
    environment = {**os.environ, "COE_KAFKA_BOOTSTRAP": bootstrap}
    command = Path(sys.executable).with_name("coe")
    process = await asyncio.create_subprocess_exec(command, *arguments, env=environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return said.decode()


async def test_dead_letters_are_told_with_their_cause_and_their_bytes(kafka_bootstrap: str) -> None:
    # Makes the topic where no test has.
    before = (await coe(kafka_bootstrap, "dead-letters")).splitlines()
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        for record, error in LETTERS:
            headers = dead_letter(record, error, 1)
            await producer.send_and_wait(topics.DEAD_LETTER, record.value, record.key, headers=headers)
    lines = (await coe(kafka_bootstrap, "dead-letters")).splitlines()
    assert [line.partition("  ")[2] for line in lines[len(before) :]] == [
        "internal  coe.assignments.v1[3] at 7, key 'expert#0': in succession",
        "undecodable_message  coe.prompts.v1[0] at 1, key 'a': x",
        r"undecodable_message  coe.prompts.v1[0] at 2, key '\\xff': [bold]y",
    ]
    lines = (await coe(kafka_bootstrap, "dead-letters", "--json")).splitlines()
    facts = [json.loads(line) for line in lines[len(before) :]]
    assert facts[0]["message"] == {"prompt": {"request_id": "hangs", "prompt": "hello"}}
    assert (facts[1]["text"], facts[2]["base64"]) == ("{no json", "/w==")


async def test_a_prompt_is_cancelled_by_its_id(kafka_bootstrap: str) -> None:
    bus = KafkaBus(kafka_bootstrap, source="test", start_timeout_s=30)
    await bus.start()
    async with bus.tail((topics.CANCELLATIONS,)) as records:
        await coe(kafka_bootstrap, "cancel", "one", "two")
        found = [decode(await asyncio.wait_for(anext(records), 30), events_pb2.PromptCancelled) for _ in range(2)]
    await bus.stop()
    assert [cancelled.request_id for cancelled in found] == ["one", "two"]
