"""Golden figures computed by hand on tiny sets."""

import numpy as np
import pytest

from coe.evaluation.metrics import bootstrap, curve_area, hull, pair_figures, paired_bootstrap


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


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    random = np.random.default_rng(0)
    hard = random.random(400)
    pair = paired_bootstrap(hard + 0.1, hard)
    assert (pair.low, pair.high) == (pytest.approx(0.1), pytest.approx(0.1))
