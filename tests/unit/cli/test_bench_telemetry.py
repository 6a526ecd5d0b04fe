"""What the rounds of the telemetry bench say."""

import pytest

from coe.cli.bench_telemetry import figures


def test_figures_are_of_sums() -> None:
    found = figures([(1.0, 1.1, 2.0), (3.0, 3.1, 4.0)], prompts=1000, traces_per_s=10, cores=2)
    assert found["cpu_ms_per_prompt"] == {"without": 2.0, "with": 2.1, "every": 3.0}
    assert found["ratio"] == 1.05
    assert found["ms_per_trace"] == 1.0
    assert found["share_of_machine"] == 0.005
    assert found["ratio_interval"] == (pytest.approx(1.033, abs=0.001), pytest.approx(1.1))
    assert found["ms_per_trace_interval"] == (1.0, 1.0)


def test_intervals_narrow_with_rounds() -> None:
    rounds = [(1.0, 0.9, 2.0), (1.0, 1.1, 3.0)]
    low, high = figures(rounds, 1000, 10, 2)["ratio_interval"]  # type: ignore[misc]
    narrow_low, narrow_high = figures(rounds * 50, 1000, 10, 2)["ratio_interval"]  # type: ignore[misc]
    assert low < narrow_low < 1.0 < narrow_high < high
