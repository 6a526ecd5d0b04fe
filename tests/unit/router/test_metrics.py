"""Metrics against values computed by hand, and on data with known answers."""

import numpy as np
import pytest

from coe.router.metrics import auroc, expected_calibration_error


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False])
    # Two bins of two: gaps 0.05 and 0.05.
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(0.05)


def test_nothing_has_no_error() -> None:
    assert expected_calibration_error(np.array([]), np.array([], bool)) == 0


def test_auroc_by_hand() -> None:
    # Of the 6 pairs 4 are in order, 1 is a tie and 1 is not: 0.4 above 0.1, and 0.9 above all.
    assert auroc(np.array([0.1, 0.4, 0.5]), np.array([0.4, 0.9])) == pytest.approx((4 + 0.5) / 6)
    assert np.isnan(auroc(np.array([]), np.array([1.0])))
