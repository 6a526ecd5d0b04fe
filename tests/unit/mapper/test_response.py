"""The response model on made-up outcomes whose law is known."""

import numpy as np
import pytest

from coe.mapper.response import Penalties, fit_response

PROMPTS = 4000
TRUE = np.array([1.5, -1.0, 0.0, 0.0])
LEVELS = np.array([[0.5, -0.5, 1.0], [-1.0, 0.0, 2.0]])


def logistic(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One difficulty for all experts, levels of their own in two cells; a third of the outcomes is missing."""
    random = np.random.default_rng(3)
    inputs = random.normal(size=(PROMPTS, 4)).astype(np.float32)
    cells = random.integers(0, 2, PROMPTS)
    chance = logistic(LEVELS[cells] + (inputs @ TRUE)[:, None])
    scores = (random.random(chance.shape) < chance).astype(float)
    scores[random.random(scores.shape) < 1 / 3] = np.nan
    return inputs, cells, scores, chance


def test_chances_are_found(world: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    inputs, cells, scores, chance = world
    fitted = fit_response(inputs, cells, scores, np.full((2, 3), 0.5), Penalties(shared=1.0, expert=100.0))
    assert np.abs(fitted.quality(inputs, cells) - chance).mean() < 0.02


def test_with_endless_penalties_a_cell_keeps_its_mean(
    world: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    inputs, cells, scores, _ = world
    mean = np.array([np.nanmean(scores[cells == cell], axis=0) for cell in range(2)])
    stiff = Penalties(shared=1e9, expert=1e9, level=1e9)
    fitted = fit_response(inputs, cells, scores, mean, stiff)
    assert np.allclose(fitted.quality(inputs, cells), mean[cells], atol=1e-3)


def test_an_expert_without_outcomes_keeps_its_prior_level(
    world: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    inputs, cells, scores, _ = world
    scores = np.where(np.array([True, False, False]), np.nan, scores)
    fitted = fit_response(inputs, cells, scores, np.full((2, 3), 0.9), Penalties())
    centre = np.array([inputs[cells == cell].mean(0) for cell in range(2)], np.float32)
    assert fitted.quality(centre, np.arange(2))[:, 0] == pytest.approx(0.9, abs=1e-3)
