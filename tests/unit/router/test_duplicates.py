"""Which of two records with one id is the prompt."""

import pytest

from coe.router.duplicates import Place, is_duplicate, key


@pytest.mark.parametrize(
    ("first", "duplicate"),
    [
        (None, False),
        # The record itself, handed out again after a crash.
        (Place(3, 10), False),
        (Place(3, 9), True),
        # Another partition: partitions were added, or a producer chose it.
        (Place(2, 99), True),
        # Nothing later can be the first: the topic was deleted and made anew.
        (Place(3, 11), False),
    ],
)
def test_a_duplicate_is_another_record_after_the_first(first: Place | None, duplicate: bool) -> None:
    assert is_duplicate(Place(3, 10), first) is duplicate


def test_an_id_has_one_key_whatever_its_characters() -> None:
    assert key("a") == key("a") != key("b")
    assert key("{x}").endswith(":{x}")
    assert key("日本").isprintable()
