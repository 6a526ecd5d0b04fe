"""The worker on a real broker, with the expert `echo`: one terminal event for each prompt, good or bad."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from coe._proto import events_pb2
from coe.expert_worker import echo
from coe.expert_worker.effects import Grant
from coe.expert_worker.expected import Expected
from coe.expert_worker.hosted import HostedExperts
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runner, Runners
from coe.expert_worker.worker import Worker
from coe.platform import topics
from coe.platform.bus.api import Outgoing, Subscription, TopicSpec
from coe.platform.bus.kafka import KafkaBus
from coe.scheduling import Exponential, LearnedCosts, make_policy

pytestmark = pytest.mark.kafka
WAIT_S = 60.0
IN_FLIGHT = 64


class NoLeases:
    """For workers that run nothing but echo."""

    async def acquire(self, wish: object) -> Grant:
        raise AssertionError("echo needs no lease")

    release = prefetch = acquire


class Rig:
    """Workers of one group on a topic of this test's own."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        self.topic = f"coe.test.{uuid4().hex}"
        self._bootstrap = bootstrap
        self._home = home

    def bus(self) -> KafkaBus:
        ensure = [*topics.SPECS, TopicSpec(self.topic, 4)]
        return KafkaBus(self._bootstrap, source="coe/test", start_timeout_s=30, ensure=ensure)

    @asynccontextmanager
    async def worker(self, make_runner: Callable[[], Runner] = echo.EchoRunner) -> AsyncIterator[Worker]:
        hosted = HostedExperts(self._home, allow_echo=True)
        bus = self.bus()
        await bus.start()
        worker = Worker(
            bus,
            echo.LeasesWithEcho(NoLeases()),
            Runners(lambda expert_id: make_runner()),
            WorkerLoop(
                make_policy("lookahead"), Expected(LearnedCosts(lambda _: 0, 16), Exponential(), 16), max_batch=16
            ),
            Identity("w", "n"),
            Subscription(self.topic, self.topic, max_in_flight=IN_FLIGHT),
            known=hosted.check,
            on_queue=lambda depths, partitions: None,
            max_prompt_bytes=100_000,
        )
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            await worker.drain(WAIT_S)
            try:
                await running
            finally:
                await bus.stop()

    def prompt(self, request_id: str, **fields: object) -> Outgoing:
        assigned = events_pb2.PromptAssigned(assignment={"expert_id": fields.pop("expert_id", "echo")})
        assigned.prompt.request_id, assigned.prompt.prompt = request_id, f"say {request_id}"
        assigned.prompt.submitted_at_ms = time.time_ns() // 1_000_000
        for name, value in fields.items():
            setattr(assigned.prompt, name, value)
        return Outgoing(self.topic, request_id, assigned)


async def test_every_prompt_ends_once_whatever_it_is(kafka_bootstrap: str, tmp_path: Path) -> None:
    rig = Rig(kafka_bootstrap, tmp_path)
    client = rig.bus()
    await client.start()
    good = [f"{rig.topic}-{number}" for number in range(200)]
    bad = {
        f"{rig.topic}-late": rig.prompt(f"{rig.topic}-late", deadline_ms=1),
        f"{rig.topic}-who": rig.prompt(f"{rig.topic}-who", expert_id="nobody"),
        f"{rig.topic}-big": rig.prompt(f"{rig.topic}-big", prompt="x" * 200_000),
    }
    ends: Counter[str] = Counter()
    codes: dict[str, str] = {}
    async with client.tail((topics.COMPLETIONS,)) as records, rig.worker(), rig.worker():
        await asyncio.gather(*(client.publisher.publish(rig.prompt(name)) for name in good))
        await asyncio.gather(*(client.publisher.publish(outgoing) for outgoing in bad.values()))
        async with asyncio.timeout(WAIT_S):
            async for record in records:
                done = events_pb2.PromptCompleted.FromString(record.value)
                if done.request_id.startswith(rig.topic):
                    ends[done.request_id] += 1
                    codes[done.request_id] = done.error.code
                    if done.request_id in good:
                        assert done.completion.text == f"say {done.request_id}"
                if len(ends) == len(good) + len(bad):
                    break
    await client.stop()
    assert set(ends) == {*good, *bad}
    assert set(ends.values()) == {1}
    assert {codes[name].rpartition("-")[2] for name in bad} == {
        "deadline_exceeded",
        "expert_not_found",
        "prompt_too_large",
    }
