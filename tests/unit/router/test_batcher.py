"""Micro-batching of concurrent calls."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from coe._proto.common_pb2 import RoutingDecision
from coe.platform.errors import CapacityExceeded
from coe.router.batcher import MicroBatcher


class Gate:
    """Classifies nothing until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[RoutingDecision]:
        self.batches.append(list(texts))
        assert self.open.wait(10)
        return [RoutingDecision(category=text) for text in texts]


async def test_calls_gather_while_a_batch_is_under_way() -> None:
    gate = Gate()
    batcher = MicroBatcher(gate, max_batch=3)
    calls = [asyncio.create_task(batcher.classify(str(n))) for n in range(6)]
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        calls[1].cancel()
        runner = asyncio.create_task(batcher.run())
        gate.open.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    runner.cancel()
    assert [a.category for a in answers if isinstance(a, RoutingDecision)] == ["0", "2", "3", "4", "5"]
    assert gate.batches == [["0", "2"], ["3", "4", "5"]]


async def test_a_text_that_can_not_be_classified_fails_alone() -> None:
    def classify(texts: Sequence[str]) -> list[RoutingDecision]:
        if "bad" in texts:
            raise ZeroDivisionError("bad")
        return [RoutingDecision(category=text) for text in texts]

    batcher = MicroBatcher(classify, max_batch=3)
    runner = asyncio.create_task(batcher.run())
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*map(batcher.classify, ("a", "bad", "b")), return_exceptions=True)
        assert (await batcher.classify("c")).category == "c"
    runner.cancel()
    assert [a.category if isinstance(a, RoutingDecision) else type(a) for a in answers] == ["a", ZeroDivisionError, "b"]


async def test_a_full_queue_refuses() -> None:
    batcher = MicroBatcher(Gate(), max_batch=3, max_waiting=1)
    waiting = asyncio.create_task(batcher.classify("first"))
    await asyncio.sleep(0)
    with pytest.raises(CapacityExceeded):
        await batcher.classify("second")
    waiting.cancel()
