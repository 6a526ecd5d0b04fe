"""Which prompts a step computes: long ones hold up nobody, and nobody is passed for ever."""

from hypothesis import given
from hypothesis import strategies as st

from coe.experts.prefill_budget import shares

PENDING = st.lists(st.integers(1, 5000), min_size=1, max_size=20)


def test_what_fits_is_computed() -> None:
    assert shares([100, 12, 400], 512) == [100, 12, 400]


def test_a_long_prompt_does_not_hold_up_short_ones_behind_it() -> None:
    assert shares([8000, 40, 3000, 40], 512) == [256, 40, 176, 40]


def test_what_the_others_leave_is_the_first_ones() -> None:
    assert shares([8000], 512) == [512]
    assert shares([8000, 40], 512) == [472, 40]


@given(PENDING, st.integers(1, 600))
def test_the_room_is_used_and_the_first_has_half_of_it(pending: list[int], room: int) -> None:
    counts = shares(pending, room)
    assert sum(counts) == min(room, sum(pending))
    assert all(0 <= count <= left for count, left in zip(counts, pending, strict=True))
    assert counts[0] >= min(pending[0], room / 2)


@given(PENDING, st.integers(0, 100), st.integers(64, 512))
def test_nobody_is_passed_for_ever(pending: list[int], short: int, room: int) -> None:
    """Though as many short prompts as fit come with every step."""
    left, steps = list(pending), 0
    while left:
        counts = shares([*left, *[short + 1] * 8], room)
        left = [tokens - count for tokens, count in zip(left, counts, strict=False) if tokens > count]
        steps += 1
        assert steps <= sum(-(-2 * tokens // room) for tokens in pending) + len(pending)
