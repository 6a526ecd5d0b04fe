"""Plans keep a margin, and it is the one that the formula says."""

import numpy as np
import pytest

from coe.evaluation.planning import GUARD, assign, guarded, margin
from coe.mapper.table import QualityTable

ACTIVE = np.array([10.0, 70.0])


def table(cells: int) -> QualityTable:
    quality = np.array([[0.5, 0.5 + 0.01 * cell] for cell in range(cells)])
    support = np.full((cells, 2), 100)
    names = tuple(f"c{cell}" for cell in range(cells))
    return QualityTable(names, quality, support, np.full(cells, 1 / cells), np.ones((cells, 2), bool))


def test_the_margin_is_in_standard_errors_of_a_difference() -> None:
    # Half at 10, half at 70: deviation 30; 900 prompts against 450 others.
    assert margin(ACTIVE, np.array([0.5, 0.5]), 900) == pytest.approx(GUARD * 30 * np.sqrt(3 / 900))


def test_a_plan_stays_below_its_budget() -> None:
    cells = table(40)
    plan = guarded(cells, ACTIVE, 31.0, 900)
    assert plan is not None
    assert plan.active_params_b + margin(ACTIVE[plan.chosen], cells.share, 900) <= 31.0 + 0.1
    assert plan.active_params_b > 25


def test_the_best_cells_get_the_large_expert() -> None:
    cells = table(4)
    plan = guarded(cells, ACTIVE, 45.0, 10**9)
    assert plan is not None
    assert list(assign(cells, plan, ["c3", "c0", "c2", "c1"])) == [1, 0, 1, 0]


def test_nothing_fits_a_tiny_budget() -> None:
    assert guarded(table(4), ACTIVE, 5.0, 100) is None
    assert guarded(table(4), ACTIVE, None, 100) is not None


def test_a_known_overrun_is_taken_off_the_budget() -> None:
    cells = table(40)
    plan = guarded(cells, ACTIVE, 31.0, 900, overrun_b=3.0)
    assert plan is not None
    assert plan.active_params_b + margin(ACTIVE[plan.chosen], cells.share, 900) <= 28.0 + 0.1


def test_an_expert_that_answers_everything_needs_no_margin() -> None:
    # 60 and 80 B in turn promise 0.6075 for 70 B, but leave no margin; 60 and 70 B do, and are worse than 70 B alone.
    quality = np.array([[0.595, 0.6, 0.62]] * 2)
    cells = QualityTable(("a", "b"), quality, np.full((2, 3), 100), np.full(2, 0.5), np.ones((2, 3), bool))
    plan = guarded(cells, np.array([60.0, 70.0, 80.0]), 70.0, 100)
    assert plan is not None
    assert list(plan.chosen) == [1, 1]
    assert (plan.active_params_b, plan.quality) == (70.0, pytest.approx(0.6))
