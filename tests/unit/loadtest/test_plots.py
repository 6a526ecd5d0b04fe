"""Plots of short and of long runs."""

from loadtest.plots import over_time
from loadtest.recorder import Sample


def samples(count: int) -> list[Sample]:
    return [Sample(at_s=i / 100, sent_s=i / 100, first_text_s=0.1, done_s=0.2, found_in="hbm") for i in range(count)]


def test_what_is_counted_is_said() -> None:
    assert "prompts by tier of weights" in over_time(samples(50), [])


def test_a_long_run_draws_its_dots_as_a_picture() -> None:
    short, long = over_time(samples(500), []), over_time(samples(20_000), [])
    assert "data:image/png" not in short
    assert "data:image/png" in long
    assert len(long) < 2 * len(short)
