"""Waits until the consumer groups have nothing left to do."""

import asyncio

from coe.local.doctor.groups import groups
from coe.platform.bus.kafka.connection import Connection

_LOOKS = 20
_BETWEEN_S = 0.5


async def settled(bootstrap: str) -> int:
    """Records that no group has committed, once that is 0 or after some seconds."""
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
