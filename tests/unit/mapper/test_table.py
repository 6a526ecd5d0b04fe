"""Shrinkage by hand."""

import numpy as np
import pytest

from coe.mapper.table import additive_prior, build_table


def test_a_cell_is_shrunk_towards_its_prior() -> None:
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    table = build_table(["a", "a", "b", "b"], scores, shrinkage=2, min_support=1)
    # Experts: means 0.5 and 0.25, cells: 0.5 and 0.25; the additive prior of (a, first) is 0.5 + 0.125 = 0.625.
    assert table.cells == ("a", "b")
    assert table.quality[0, 0] == pytest.approx((2 + 2 * 0.625) / 4)
    assert table.quality[1, 1] == pytest.approx((1 + 2 * 0.125) / 4)
    np.testing.assert_allclose(table.share, [0.5, 0.5])


def test_few_outcomes_make_an_expert_ineligible_but_never_all() -> None:
    scores = np.array([[1.0, np.nan]] * 3 + [[1.0, 0.5]] * 5 + [[0.5, 0.5]])
    table = build_table(["a"] * 8 + ["b"], scores, min_support=8)
    np.testing.assert_array_equal(table.eligible, [[True, False], [True, True]])


def test_the_prior_fills_gaps_with_cell_and_expert_levels() -> None:
    # The second expert was run on the easy cell only: elsewhere it is expected 0.2 better than the first.
    total = np.array([[6.0, 8.0], [2.0, 0.0]])
    support = np.array([[10, 10], [10, 0]])
    np.testing.assert_allclose(additive_prior(total, support), [[0.6, 0.8], [0.2, 0.4]], atol=1e-6)
