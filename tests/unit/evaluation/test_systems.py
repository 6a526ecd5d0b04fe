"""Each baseline on a table small enough to work out by hand."""

import numpy as np
import pytest

from coe.evaluation.lagrangian import choose, penalty_for
from coe.evaluation.neighbours import neighbour_quality
from coe.evaluation.systems import mixing, oracle, singles, uniform

NAN = np.nan
ACTIVE = np.array([1.0, 10.0])
SCORES = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [NAN, 1.0]])


def test_singles_count_only_prompts_they_were_run_on() -> None:
    small, large = singles(["small", "large"], SCORES, ACTIVE)
    assert (small.score, small.coverage, small.active_params_b) == (pytest.approx(1 / 3), 0.75, 1.0)
    assert (large.score, large.coverage) == (0.75, 1.0)


def test_random_is_an_expectation() -> None:
    system = uniform(SCORES, ACTIVE)
    assert system.score == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert system.active_params_b == pytest.approx((5.5 * 3 + 10) / 4)


def test_the_oracle_takes_the_smallest_of_equals() -> None:
    system = oracle(SCORES, ACTIVE)
    assert system.score == 0.75
    assert list(system.active) == [1.0, 10.0, 1.0, 10.0]


def test_mixing_spends_exactly_its_budget() -> None:
    system = mixing(SCORES, SCORES[:3], ACTIVE, 4.0)
    assert system is not None
    assert system.active_params_b == pytest.approx(4.0)
    assert system.scores[1] == pytest.approx(1 / 3)
    assert mixing(SCORES, SCORES, ACTIVE, 0.5) is None
    everything = mixing(SCORES, SCORES, ACTIVE, None)
    assert everything is not None
    assert everything.active_params_b == 10.0


def test_the_penalty_keeps_to_the_budget_and_is_not_larger_than_needed() -> None:
    quality = np.array([[0.1, 0.9], [0.5, 0.6], [0.5, 0.55], [0.5, NAN]])
    assert penalty_for(quality, ACTIVE, None) == 0.0
    penalty = penalty_for(quality, ACTIVE, 4.0)
    assert list(choose(quality, ACTIVE, penalty)) == [1, 0, 0, 0]
    assert list(choose(quality, ACTIVE, penalty_for(quality, ACTIVE, 5.5))) == [1, 1, 0, 0]


def test_neighbours_by_hand() -> None:
    known = np.eye(3, dtype=np.float32)
    scores = np.array([[1.0, 0.0], [0.0, NAN], [0.0, 1.0]])
    prior = np.array([[0.5, 0.5]])
    asked = np.array([[0.8, 0.6, 0.0]], np.float32)
    quality = neighbour_quality(known, scores, prior, asked, k=2, weight=1)
    np.testing.assert_allclose(quality, [[(1 + 0 + 0.5) / 3, (0 + 0.5) / 2]])
    half = np.full((3, 2), 0.5)
    alone = neighbour_quality(known, scores, half, known, k=1, weight=1, group=np.arange(3))
    # Its own outcome is never a prompt's neighbour.
    assert alone[0, 0] == 0.25
    # Nor is that of the same prompt in another row, or where there are fewer than k others.
    pairs = neighbour_quality(known, scores, half, known, k=3, weight=1, group=np.array([0, 0, 1]))
    np.testing.assert_allclose(pairs, [[0.25, 0.75], [0.25, 0.75], [0.5, 0.25]])


def test_an_expert_that_must_not_be_chosen_stays_out() -> None:
    known = np.eye(2, dtype=np.float32)
    quality = neighbour_quality(known, np.ones((2, 2)), np.array([[0.5, NAN]]), known[:1], k=1, weight=1)
    assert np.isnan(quality[0, 1])
    assert list(choose(quality, ACTIVE, 0.0)) == [0]
