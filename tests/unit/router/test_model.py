"""Scores of a small model."""

from dataclasses import replace

import numpy as np
import pytest

from coe.router.model import Neighbours, OutlierHead, Temperature
from coe.router.novelty import FEATURES
from unit.router import support

# Weights that look at nothing but how far "none of the categories" is ahead.
ONLY_NONE = np.eye(4 + len(FEATURES), dtype=np.float32)[0] / 10


def test_probabilities_sum_to_one_and_scores_stay_in_range() -> None:
    artifact = support.artifact()
    scores = artifact.model.scores(support.some_features(artifact.spelling))
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-5)
    assert ((scores.out_of_distribution >= 0) & (scores.out_of_distribution <= 1)).all()


def test_rows_do_not_depend_on_each_other() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.spelling)
    together = artifact.model.scores(features)
    for row in range(len(features.lexical)):
        alone = artifact.model.scores(features[np.array([row])])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[row], atol=1e-5)


def test_neighbours_vote_by_similarity() -> None:
    vectors = np.eye(3, dtype=np.float32)
    near = Neighbours(vectors, np.array([0, 1, 1]), k=2, sharpness=10)
    votes, distance = near.votes(np.array([[0.8, 0.6, 0]], np.float32), 3)
    # Weights exp(-2) and exp(-4) for similarities 0.8 and 0.6.
    assert votes[0].tolist() == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 0], abs=1e-5)
    assert distance[0] == pytest.approx(0.3)


def test_a_higher_temperature_is_less_sure_and_changes_no_winner() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.spelling)
    cold = replace(artifact.model, neighbour_share=0.0, temperature=Temperature(0, 0)).scores(features)
    warm = replace(artifact.model, neighbour_share=0.0, temperature=Temperature(1, 0)).scores(features)
    assert (warm.probabilities.max(1) < cold.probabilities.max(1)).all()
    assert (warm.probabilities.argmax(1) == cold.probabilities.argmax(1)).all()


def test_a_gate_takes_its_share_and_leaves_the_rest_in_proportion() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.spelling)
    plain = replace(artifact.model, neighbour_share=0.0)
    gated = replace(
        plain,
        categories=(*plain.categories, "poetry"),
        gate_weight=np.ones((1, support.DIMENSIONS), np.float32),
        gate_bias=np.zeros(1, np.float32),
    )
    before, after = plain.scores(features).probabilities, gated.scores(features).probabilities
    assert after.shape[1] == 4
    np.testing.assert_allclose(after.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(after[:, :3] / after[:, :3].sum(1, keepdims=True), before, atol=1e-5)


def test_what_a_gate_claims_is_not_strange() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.spelling)
    gate = 100 * features.embeddings[:1]
    gated = replace(
        artifact.model,
        categories=(*artifact.model.categories, "poetry"),
        gate_weight=gate,
        gate_bias=np.array([-90], np.float32),
    )
    before, after = artifact.model.scores(features), gated.scores(features)
    assert after.out_of_distribution[0] < 1e-3
    np.testing.assert_allclose(after.out_of_distribution[1:], before.out_of_distribution[1:], rtol=0.1)


def test_none_of_the_categories_takes_no_probability() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.spelling)
    heads = artifact.model.heads
    louder = replace(heads, bias=heads.bias + np.array([0, 0, 0, 5], np.float32))
    # The score of strangeness must not move the temperature here.
    still = replace(artifact.model, temperature=Temperature(0.1, 0.0), outlier=OutlierHead(ONLY_NONE, 0.0))
    before = still.scores(features)
    after = replace(still, heads=louder).scores(features)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-6)
    assert (after.out_of_distribution > before.out_of_distribution).all()
