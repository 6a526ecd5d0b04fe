"""A prompt that is redelivered often shares its worker with fewer others, and is alone in the end."""

import asyncio

import pytest

from coe.expert_worker import hands as module
from coe.expert_worker.hands import Hands
from coe.platform import topics
from coe.platform.bus.api import Record


def record(offset: int, partition: int = 0) -> Record:
    return Record(topics.ASSIGNMENTS, partition, offset, b"a#0", b"", (), 0)


def filled(hands: Hands, *attempts: int) -> int:
    """How many of these it takes, one after the other."""
    taken = 0
    for offset, attempt in enumerate(attempts):
        if not hands.has_room(attempt):
            break
        hands.take(record(offset), attempt)
        taken += 1
    return taken


def test_first_deliveries_are_unlimited() -> None:
    assert filled(Hands(8), *[0] * 10_000) == 10_000
    assert filled(Hands(3), *[0] * 100) == 100


def test_each_redelivery_leaves_room_for_an_eighth_as_many() -> None:
    assert [filled(Hands(8), *[attempt] * 5000) for attempt in range(1, 8)] == [4096, 512, 64, 8, 1, 1, 1]
    assert [filled(Hands(3), *[attempt] * 300) for attempt in (1, 2)] == [1, 1]


def test_the_most_redelivered_prompt_sets_the_limit() -> None:
    hands = Hands(8)
    assert filled(hands, 4, *[0] * 10) == 8
    assert not hands.has_room()
    hands.drop(record(0))
    assert hands.has_room()
    assert not hands.has_room(5), "who must be alone waits for the others"
    for offset in range(1, 8):
        hands.drop(record(offset))
    assert hands.has_room(5)
    assert filled(hands, *[0] * 100) == 100, "who had come back is gone"


def test_dropping_twice_or_without_taking_is_harmless() -> None:
    hands = Hands(8)
    hands.take(record(0), 5)
    for _ in range(2):
        hands.drop(record(0, partition=1))
        assert not hands.has_room()
    for _ in range(2):
        hands.drop(record(0))
        assert hands.has_room(7)


async def test_waiting_for_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(8)
    hands.take(record(0), 7)
    waiting = asyncio.create_task(hands.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    hands.drop(record(0))
    await waiting
    hands.take(record(1), 7)
    monkeypatch.setattr(module, "HOLD_S", 0.01)
    await hands.room()
    assert not hands.has_room()
