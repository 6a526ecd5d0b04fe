"""Arrival schedules: ascending, of the mean rate that was asked, the same for the same seed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import schedule
from loadtest.loadprofile import Phase

KINDS = st.sampled_from(["poisson", "bursty", "steady"])


@given(KINDS, st.floats(0.5, 50), st.floats(1, 20), st.integers(0, 1000))
def test_arrivals_ascend_within_their_phase(kind: str, rate: float, duration_s: float, seed: int) -> None:
    phases = (
        Phase(duration_s=duration_s, rate=rate, arrivals=kind, measured=False),
        Phase(duration_s=duration_s, rate=rate, arrivals=kind),
    )
    arrivals = list(schedule(phases, seed))
    assert arrivals == list(schedule(phases, seed))
    assert all(first.at_s <= second.at_s for first, second in pairwise(arrivals))
    for arrival in arrivals:
        assert arrival.measured == (arrival.at_s >= duration_s)
        assert arrival.at_s <= 2 * duration_s + phases[0].burst * phases[0].burst_s


@pytest.mark.parametrize("kind", ["poisson", "bursty", "steady"])
def test_the_mean_rate_is_the_one_asked_for(kind: str) -> None:
    arrivals = list(schedule((Phase(duration_s=1000, rate=20, arrivals=kind),), seed=3))
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)


def test_bursts_are_peaks_with_silence_between() -> None:
    phase = Phase(duration_s=100, rate=100, arrivals="bursty", burst=4, burst_s=1)
    assert all(arrival.at_s % 4 < 1 for arrival in schedule((phase,), seed=1))
