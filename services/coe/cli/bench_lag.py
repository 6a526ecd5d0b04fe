"""Waits until the consumer groups have no lag."""

import asyncio

from coe.local.doctor.groups import groups
from coe.platform.bus.kafka.connection import Connection

_LOOKS = 20
_BETWEEN_S = 0.5


async def settled(bootstrap: str) -> int:
    """Returns the number of records not yet committed by their group, as soon as it is 0 or after 10 seconds."""
    left = await _left(bootstrap)
    for _ in range(_LOOKS):
        if not left:
            break
        await asyncio.sleep(_BETWEEN_S)
        left = await _left(bootstrap)
    return left


async def _left(bootstrap: str) -> int:
    found = await groups(Connection(bootstrap, "coe-bench"))
    return sum(group.left for group in found.values())
