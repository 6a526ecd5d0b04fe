from hypothesis import given, settings
from hypothesis import strategies as st

from coe.experts.stop_strings import StopStrings

SMALL = st.text("ab\u00e9", min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(st.text("ab\u00e9", max_size=3), max_size=12), st.lists(SMALL, max_size=3))
def test_the_text_ends_before_the_first_stop_wherever_it_was_cut(parts: list[str], stops: list[str]) -> None:
    matcher = StopStrings(stops)
    sent = "".join(matcher.push(part) for part in parts)
    if not matcher.stopped:
        sent += matcher.flush()
    # The stop that is complete first decides; of those complete with the same part, the one that begins first.
    text, seen = "".join(parts), ""
    for part in parts:
        seen += part
        if any(stop in seen for stop in stops):
            text = seen[: min(seen.find(stop) for stop in stops if stop in seen)]
            break
    assert sent == text
    assert matcher.stopped == any(stop in "".join(parts) for stop in stops)


def test_only_a_possible_beginning_is_held_back() -> None:
    matcher = StopStrings(["###"])
    assert matcher.push("one #") == "one "
    assert matcher.push("#") == ""
    assert matcher.push("two") == "##two"
    assert matcher.push("##") == ""
    assert matcher.flush() == "##"


def test_nothing_comes_after_a_stop() -> None:
    matcher = StopStrings(["b"])
    assert matcher.push("abc") == "a"
    assert matcher.push("more") == ""
    assert matcher.flush() == ""
