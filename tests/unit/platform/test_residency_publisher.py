"""The publisher's end, whatever its client makes of being cancelled."""

import asyncio
from contextlib import suppress

import pytest

from coe.platform.residency import ResidencyPublisher


async def test_a_cancellation_that_the_client_loses_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = ResidencyPublisher("redis://127.0.0.1:1/0", "node", 1)
    writing, lost = asyncio.Event(), 0

    async def write() -> None:
        nonlocal lost
        writing.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lost += 1

    monkeypatch.setattr(publisher, "_write", write)
    await publisher.start()
    async with asyncio.timeout(10.0):
        await writing.wait()
        await publisher.close()
    assert lost == 1
