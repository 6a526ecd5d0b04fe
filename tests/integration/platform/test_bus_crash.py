"""Processes that die or freeze at any moment: every record is answered, and answered once."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from coe._proto import events_pb2
from coe.platform.bus.api import Outgoing, Record
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.ledger import OffsetLedger

from .bus_process import SESSION_TIMEOUT_S, Subscription, answer, specs

pytestmark = pytest.mark.kafka
SCRIPT = Path(__file__).with_name("bus_process.py")


class Crashing:
    """A bus of the test's own, and child processes on the same topics."""

    def __init__(self, bootstrap: str, bus: KafkaBus, run: str) -> None:
        self.bootstrap, self.bus, self.run = bootstrap, bus, run
        self.answered: Counter[str] = Counter()
        self.children: list[asyncio.subprocess.Process] = []

    async def spawn(self, mode: str) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            self.bootstrap,
            self.run,
            mode,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.children.append(child)
        return child

    async def submit(self, *names: str) -> None:
        for name in names:
            message = events_pb2.PromptSubmitted(request_id=name)
            await self.bus.publisher.publish(Outgoing(f"in-{self.run}", name, message))

    async def until_answered(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.answered) < count:  # noqa: ASYNC110 (counted by a reader task)
                await asyncio.sleep(0.02)

    async def follow(self, records: AsyncIterator[Record]) -> None:
        async for record in records:
            self.answered[(record.key or b"").decode()] += 1


@pytest.fixture
async def crashing(kafka_bootstrap: str) -> AsyncIterator[Crashing]:
    run = uuid4().hex[:8]
    bus = KafkaBus(kafka_bootstrap, source="coe/test", ensure=specs(run), session_timeout_s=SESSION_TIMEOUT_S)
    await bus.start()
    crashing = Crashing(kafka_bootstrap, bus, run)
    async with bus.tail([f"out-{run}"]) as records:
        follower = asyncio.create_task(crashing.follow(records))
        yield crashing
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    for child in crashing.children:
        with suppress(ProcessLookupError):
            child.kill()
        await child.communicate()
    await bus.stop()


@pytest.mark.parametrize("mode", ["process", "parallel"])
async def test_nothing_is_lost_or_doubled_when_processes_are_killed(crashing: Crashing, mode: str) -> None:
    chance = random.Random(7)
    submitted = 0
    for _ in range(3):
        child = await crashing.spawn(mode)
        await crashing.submit(*(f"r{number}" for number in range(submitted, submitted + 60)))
        submitted += 60
        # Somewhere within the work on these.
        await crashing.until_answered(submitted - chance.randint(1, 55))
        child.send_signal(SIGKILL)
        await child.wait()
    await crashing.spawn(mode)
    await crashing.until_answered(submitted)
    # Behind it all: were an answer doubled, the second one would have come by now.
    await crashing.submit("last")
    await crashing.until_answered(submitted + 1)
    assert crashing.answered == dict.fromkeys([*(f"r{number}" for number in range(submitted)), "last"], 1)


async def test_a_frozen_owner_can_not_answer_once_another_has(crashing: Crashing) -> None:
    zombie = await crashing.spawn("held")
    assert zombie.stdin is not None
    assert zombie.stdout is not None
    await crashing.submit("a")
    assert await zombie.stdout.readline() == b"took a 0\n"
    # What was handed out is committed soon after; only then can the heir know of the first attempt.
    await crashing.submit("b")
    assert await zombie.stdout.readline() == b"took b 0\n"
    await marked(crashing, {"a", "b"})
    zombie.send_signal(SIGSTOP)
    subscription = Subscription(f"in-{crashing.run}", f"group-{crashing.run}")
    async with asyncio.timeout(60), crashing.bus.parallel(subscription) as heir:
        found = [await anext(heir), await anext(heir)]
        assert sorted(heir.attempt(record) for record in found) == [1, 1]
        for record in found:
            assert await heir.complete(record, answer(crashing.run, record))
        zombie.send_signal(SIGCONT)
        zombie.stdin.write(b"\n\n")
        assert {await zombie.stdout.readline(), await zombie.stdout.readline()} == {b"lost a\n", b"lost b\n"}
        await crashing.until_answered(2)
    assert crashing.answered == {"a": 1, "b": 1}


async def marked(crashing: Crashing, keys: set[str]) -> None:
    """Waits until the group's offsets tell of as many records in flight."""
    async with asyncio.timeout(30):
        while await in_flight(crashing) < len(keys):  # noqa: ASYNC110 (the broker can't wake us)
            await asyncio.sleep(0.05)


async def in_flight(crashing: Crashing) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=crashing.bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"group-{crashing.run}")
    finally:
        await admin.close()
    ledgers = [OffsetLedger(offset, metadata) for offset, metadata in offsets.values() if offset >= 0]
    return sum(len(ledger.inherited) for ledger in ledgers)
