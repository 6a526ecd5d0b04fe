"""What may come next, by what came before."""

from hypothesis import given
from hypothesis import strategies as st

from coe.experts.lookup import WIDTH, Lookup

# Bytes of one token's number begin like another's: matches that are no tokens' lie between.
TOKENS = st.integers(0, 3).map(lambda digit: digit * 0x01010101)


def test_what_followed_last_time_follows_again() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 9, 1, 2, 3])
    assert lookup.guess(3) == (4,)
    lookup.grow([6, 7, 1, 2, 3])
    assert lookup.guess(3) == (6,)


def test_nothing_is_guessed_of_what_was_not_there_before() -> None:
    assert Lookup([1, 2, 3, 4, 5]).guess(3) == ()
    assert Lookup([1]).guess(3) == ()
    assert Lookup([1, 2, 3, 1, 2, 3]).guess(0) == ()


def test_right_guesses_make_longer_ones() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 6, 7, 1, 2, 3])
    lengths = []
    for right in (1, 2, 3, 0, 0):
        lengths.append(len(lookup.guess(8)))
        lookup.judge(right, lengths[-1])
    assert lengths == [1, 2, 3, 4, 1]
    assert lookup.guess(8) == (4,)


def test_who_guessed_nothing_is_trusted_as_before() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 6, 7, 1, 2, 3])
    lookup.judge(2, 2)
    lookup.judge(0, 0)
    assert lookup.guess(8) == (4, 5, 6)


@given(st.lists(TOKENS, max_size=40), st.lists(TOKENS, max_size=10))
def test_it_is_the_latest_place_that_counts(before: list[int], then: list[int]) -> None:
    lookup = Lookup(before)
    lookup.grow(then)
    lookup.judge(4, 4)
    text = before + then
    places = [end for end in range(WIDTH, len(text)) if text[end - WIDTH : end] == text[-WIDTH:]]
    follows = text[places[-1] : places[-1] + 5] if places else []
    assert lookup.guess(5) == tuple((follows * 5)[:5])


def test_a_text_that_goes_round_is_guessed_far() -> None:
    lookup = Lookup([5, 7, 7, 7, 7])
    lookup.judge(3, 3)
    assert lookup.guess(8) == (7, 7, 7, 7)
