"""How many prompts a worker may have in hand: the fewer, the more often one of them has come back.

What ends a worker comes back with all that was in hand beside it, and each of these was handed out once more. Were they
always together, all would come to their last attempt with the one that does it. So whoever comes back has an eighth as
many beside it each time, and is alone for its last attempts: nobody else comes that far. Drains and rebalances hand out
anew too: once or twice costs nothing.
"""

import asyncio
from contextlib import suppress

from coe.platform.bus.api import Record

# Attempts that a prompt is alone for.
ALONE = 3
# How long others are kept waiting: who asks for no prompts for five minutes leaves its group.
HOLD_S = 120.0


class Hands:
    """`max_attempts`: so often a prompt is handed out."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._held: set[tuple[int, int]] = set()
        # Those among them that were handed out before: how often.
        self._back: dict[tuple[int, int], int] = {}
        self._dropped = asyncio.Event()

    async def room(self, attempt: int = 0) -> None:
        """Returns when there is room (`has_room`), or after HOLD_S."""
        if self.has_room(attempt):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                while not self.has_room(attempt):
                    self._dropped.clear()
                    await self._dropped.wait()

    def has_room(self, attempt: int = 0) -> bool:
        """For one more that was handed out so often before."""
        most = max(attempt, *self._back.values(), 0)
        return not most or len(self._held) < 8 ** max(self._max_attempts - ALONE - most, 0)

    def take(self, record: Record, attempt: int) -> None:
        place = record.partition, record.offset
        self._held.add(place)
        if attempt:
            self._back[place] = attempt

    def drop(self, record: Record) -> None:
        """It has ended, or is another worker's now."""
        place = record.partition, record.offset
        self._held.discard(place)
        self._back.pop(place, None)
        self._dropped.set()
