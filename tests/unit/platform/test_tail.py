"""Following topics when much of them was fetched already."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError

from coe.platform.bus.kafka.tail import _MAX_RECORDS, _records

RECORD = SimpleNamespace(topic="t", partition=0, offset=0, key=b"", value=b"", headers=(), timestamp=0)


class Fetched:
    """A consumer that need not wait for what it gives."""

    def __init__(self, batches: int) -> None:
        self._left = batches
        self._client = SimpleNamespace(cluster=SimpleNamespace(_last_successful_refresh_ms=0.0))

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("t", 0)}

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[SimpleNamespace]]:
        if not self._left:
            raise ConsumerStoppedError
        self._left -= 1
        return {TopicPartition("t", 0): [RECORD] * _MAX_RECORDS}


async def test_others_have_their_turn_while_a_backlog_is_read() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    seen = [turns async for _ in _records(Fetched(3), ["t"])]
    others.cancel()
    assert len(seen) == 3 * _MAX_RECORDS
    assert len(set(seen)) == 3
