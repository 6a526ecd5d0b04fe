"""Limits how many prompts a worker holds at once: the more often one of them was redelivered, the fewer.

A prompt that crashes its worker is redelivered together with every prompt the worker held, and each of those has used
an attempt. If they always travelled together, all would reach their last attempt along with the culprit. So with each
redelivery a prompt shares the worker with an eighth as many others, and for its last attempts it is alone: innocent
prompts never get that far. Drains and rebalances redeliver prompts too; one or two redeliveries change nothing.
"""

import asyncio
from contextlib import suppress

from coe.platform.bus.api import Record

# For this many attempts, the last ones, a prompt is alone.
ALONE = 3
# How long to hold back other prompts: a consumer that does not poll for five minutes leaves its group.
HOLD_S = 120.0


class Hands:
    """`max_attempts`: how often a prompt is delivered before it ends with an error."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._held: set[tuple[int, int]] = set()
        # The redelivered ones among them, with their number of previous attempts.
        self._back: dict[tuple[int, int], int] = {}
        self._dropped = asyncio.Event()

    async def room(self, attempt: int = 0) -> None:
        """Waits until there is room (`has_room`), but at most HOLD_S."""
        if self.has_room(attempt):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                while not self.has_room(attempt):
                    self._dropped.clear()
                    await self._dropped.wait()

    def has_room(self, attempt: int = 0) -> bool:
        """Whether there is room for one more prompt with this number of previous attempts."""
        most = max(attempt, *self._back.values(), 0)
        return not most or len(self._held) < 8 ** max(self._max_attempts - ALONE - most, 0)

    def take(self, record: Record, attempt: int) -> None:
        place = record.partition, record.offset
        self._held.add(place)
        if attempt:
            self._back[place] = attempt

    def drop(self, record: Record) -> None:
        """The prompt has ended, or now belongs to another worker."""
        place = record.partition, record.offset
        self._held.discard(place)
        self._back.pop(place, None)
        self._dropped.set()
