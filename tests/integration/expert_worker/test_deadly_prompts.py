"""A prompt that ends whichever worker has it at once: it is given up, and nobody beside it."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from coe._proto import events_pb2
from coe.expert_worker import echo
from coe.expert_worker.intake import MAX_ATTEMPTS
from coe.platform import topics
from integration.expert_worker.test_worker_on_kafka import WAIT_S, Rig
from support.deadlines import until_true

pytestmark = pytest.mark.kafka
PROMPTS = 30


class Dead(BaseException):
    pass


class MortalRunner(echo.EchoRunner):
    deaths = 0

    def step(self, lease: int) -> list[echo.EchoEmission]:
        if "deadly" in self._texts.values():
            MortalRunner.deaths += 1
            raise Dead
        return super().step(lease)


async def test_only_the_prompt_that_crashes_workers_ends_with_an_error(kafka_bootstrap: str, tmp_path: Path) -> None:
    rig = Rig(kafka_bootstrap, tmp_path)
    client = rig.bus()
    await client.start()
    names = [f"{rig.topic}-{number}" for number in range(PROMPTS)]
    ended: dict[str, events_pb2.PromptCompleted] = {}
    async with client.tail((topics.COMPLETIONS,)) as records:

        async def follow() -> None:
            async for record in records:
                done = events_pb2.PromptCompleted.FromString(record.value)
                if done.request_id in names:
                    assert done.request_id not in ended, "answered twice"
                    ended[done.request_id] = done

        following = asyncio.create_task(follow())
        for name in names:
            await client.publisher.publish(rig.prompt(name, prompt="deadly" if name == names[3] else "hi"))
        while len(ended) < PROMPTS:
            before = MortalRunner.deaths
            with suppress(Dead):
                async with rig.worker(MortalRunner):
                    await until_true(
                        lambda before=before: MortalRunner.deaths > before or len(ended) == PROMPTS,  # type: ignore[misc]
                        WAIT_S,
                    )
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await client.stop()
    assert ended.pop(names[3]).error.code == "internal"
    assert {done.completion.text for done in ended.values()} == {"hi"}
    assert MortalRunner.deaths == MAX_ATTEMPTS
