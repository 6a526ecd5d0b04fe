"""Micro-batching: calls that arrive at about the same time are classified together."""

import asyncio
from collections.abc import Sequence

from coe._proto import common_pb2
from coe.platform.errors import CapacityExceeded
from coe.router.handler import Classify

# A text and the future of its decision.
Call = tuple[str, asyncio.Future[common_pb2.RoutingDecision]]


class MicroBatcher:
    """Collects the next batch while the current one is classified in a thread.

    There is no timer, so a call to an idle router waits for nothing.
    """

    def __init__(self, classify: Classify, *, max_batch: int, max_waiting: int = 4096) -> None:
        self._classify = classify
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[Call] = asyncio.Queue(max_waiting)

    async def classify(self, text: str) -> common_pb2.RoutingDecision:
        """The decision for `text`.

        Raises CapacityExceeded when too many texts are already waiting, and whatever classifying this one raises.
        """
        answer: asyncio.Future[common_pb2.RoutingDecision] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((text, answer))
        except asyncio.QueueFull:
            raise CapacityExceeded(
                "too many prompts are waiting for the router", waiting=self._waiting.qsize()
            ) from None
        return await answer

    async def run(self) -> None:
        """Classifies batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._max_batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            # A caller that timed out has cancelled its future.
            batch = [(text, answer) for text, answer in batch if not answer.done()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: Sequence[Call]) -> None:
        """Classifies a batch; if it fails, each text alone, so that only the texts at fault get the error."""
        try:
            decisions = await asyncio.to_thread(self._classify, [text for text, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._answer([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, answer), decision in zip(batch, decisions, strict=True):
            if not answer.done():
                answer.set_result(decision)
