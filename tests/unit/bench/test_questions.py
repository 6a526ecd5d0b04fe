"""What the prompts of a bench have in common."""

from hypothesis import given
from hypothesis import strategies as st

from coe.bench.questions import beginnings

PROMPTS = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=2, max_size=6)


def _common(one: list[int], other: list[int]) -> int:
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)


@given(PROMPTS)
def test_beginnings_are_those_of_the_least_and_of_the_most_alike_pair(prompts: list[list[int]]) -> None:
    pairs = [_common(one, other) for place, one in enumerate(prompts) for other in prompts[place + 1 :]]
    assert beginnings(prompts) == (min(pairs), max(pairs))
