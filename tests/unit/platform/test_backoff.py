"""The pauses between tries."""

import pytest

from coe.platform.backoff import delay_s


@pytest.mark.parametrize(("failures", "draw", "expected"), [(1, 0.0, 0.1), (1, 1.0, 0.2), (3, 1.0, 0.8), (99, 1.0, 10)])
def test_pauses_double_up_to_the_cap(failures: int, draw: float, expected: float) -> None:
    assert delay_s(failures, draw=draw) == pytest.approx(expected)
