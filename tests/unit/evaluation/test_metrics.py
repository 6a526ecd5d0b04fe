"""Golden figures computed by hand on tiny sets."""

import numpy as np
import pytest

from coe.evaluation.metrics import (
    bootstrap,
    column_means,
    curve_area,
    hull,
    pair_figures,
    paired_bootstrap,
    resampled,
)


def test_the_area_of_a_curve_by_hand() -> None:
    # 0.4 until 2, a line to 0.8 at 6, level until 10: (0.4*1 + 0.6*4 + 0.8*4) / 9.
    assert curve_area([6, 2], [0.8, 0.4], 1, 10) == pytest.approx(6.0 / 9)


def test_a_worse_point_at_a_higher_cost_is_not_used() -> None:
    assert curve_area([1, 2, 3], [0.5, 0.2, 0.5], 1, 3) == pytest.approx(0.5)


def test_the_hull_is_what_mixing_reaches() -> None:
    cost, score = [1, 2, 3, 4, 5], [0.2, 0.3, 0.7, 0.6, 0.8]
    assert hull(cost, score) == [0, 2, 4]


def test_rout_llm_figures_of_a_perfect_and_a_useless_order() -> None:
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0])
    perfect = pair_figures(np.array([1.0, 1.0, 0.0, 0.0]), weak, strong)
    # PGR 0, 0.5, 1, 1, 1 at shares 0, .25, .5, .75, 1.
    assert (perfect.apgr, perfect.cpt_50, perfect.cpt_80) == (pytest.approx(0.75), 0.25, 0.5)
    worst = pair_figures(np.array([0.0, 0.0, 1.0, 1.0]), weak, strong)
    assert (worst.apgr, worst.cpt_50, worst.cpt_80) == (pytest.approx(0.25), 0.75, 1.0)


def test_an_order_that_says_nothing_is_a_random_one_however_the_file_is_sorted() -> None:
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0])
    for rows in ([0, 1, 2, 3], [3, 2, 1, 0]):
        same = pair_figures(np.zeros(4), weak[rows], strong[rows])
        assert (same.apgr, same.cpt_50, same.cpt_80) == (pytest.approx(0.5), 0.5, 1.0)


def test_a_pair_without_a_gap_has_no_figures() -> None:
    same = np.array([1.0, 0.0])
    assert np.isnan(pair_figures(same, same, same).apgr)


def test_prompts_that_either_was_not_run_on_are_left_out() -> None:
    nan = np.nan
    figures = pair_figures(np.array([2.0, 9.0, 1.0]), np.array([0.0, 0.0, 1.0]), np.array([1.0, nan, 1.0]))
    assert figures.cpt_50 == 0.5


def test_bootstrap_is_repeatable_and_skips_gaps() -> None:
    values = np.array([0.0, 1.0, np.nan] * 50)
    first = bootstrap(values, seed=3)
    assert first == bootstrap(values, seed=3)
    assert first.mean == 0.5
    # A mean of 100 fair coins: 0.5 plus or minus 1.96 * 0.05.
    assert first.low == pytest.approx(0.4, abs=0.025)
    assert first.high == pytest.approx(0.6, abs=0.025)


def test_the_interval_of_a_figure_is_that_of_the_mean_for_a_mean() -> None:
    values = np.array([0.0, 1.0] * 50)
    found = resampled(lambda rows: float(values[rows].mean()), 100)
    assert found.mean == 0.5
    assert (found.low, found.high) == (pytest.approx(0.4, abs=0.03), pytest.approx(0.6, abs=0.03))
    assert np.isnan(resampled(lambda rows: float("nan"), 100).low)


def test_a_column_without_scores_has_no_mean() -> None:
    means = column_means(np.array([[1.0, np.nan, np.nan], [0.0, 1.0, np.nan]]))
    np.testing.assert_array_equal(means, [0.5, 1.0, np.nan])


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    random = np.random.default_rng(0)
    hard = random.random(400)
    pair = paired_bootstrap(hard + 0.1, hard)
    assert (pair.low, pair.high) == (pytest.approx(0.1), pytest.approx(0.1))
