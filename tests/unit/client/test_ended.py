"""What is remembered of prompts that have ended."""

from coe.client.ended import Ended


def test_the_first_event_of_an_id_is_remembered_for_its_time() -> None:
    now = 0.0
    ended = Ended(10, 10_000, clock=lambda: now)
    ended.note("a", b"first")
    ended.note("a", b"second")
    assert (ended.get("a"), ended.get("b")) == (b"first", None)
    now = 10.0
    assert ended.get("a") is None
    ended.note("a", b"again")
    assert ended.get("a") == b"again"


def test_the_newest_are_kept_when_there_is_no_room() -> None:
    ended = Ended(10, 5_000, clock=lambda: 0.0)
    for number in range(20):
        ended.note(str(number), bytes(600))
    assert [number for number in range(20) if ended.get(str(number))] == [15, 16, 17, 18, 19]
    ended.note("large", bytes(6_000))
    assert not any(ended.get(name) for name in ("19", "large"))
    ended.note("small", b"x")
    assert ended.get("small") == b"x"
