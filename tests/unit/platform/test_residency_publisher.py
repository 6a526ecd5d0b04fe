"""What the publisher tells of its success, and its end, whatever its client makes of being cancelled."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest

from coe.platform.residency import ResidencyPublisher, publisher
from support.deadlines import until_true


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


async def test_whoever_measures_sees_whether_redis_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    monkeypatch.setattr(publisher.registry, "gauge", lambda name: SimpleNamespace(set=shown.append))
    monkeypatch.setattr(publisher.backoff, "delay_s", lambda failures, cap_s: 0.0)
    away = True

    async def write() -> None:
        nonlocal away
        if away:
            away = False
            raise OSError

    publishing = ResidencyPublisher("redis://127.0.0.1:1/0", "node", 1)
    monkeypatch.setattr(publishing, "_write", write)
    await publishing.start()
    await until_true(lambda: len(shown) == 2)
    await publishing.close()
    assert shown == [0, 1]
