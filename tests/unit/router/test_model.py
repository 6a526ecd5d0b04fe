"""Scores of a small model."""

from dataclasses import replace

import numpy as np
import pytest

from coe.router.model import OUTLIER_FEATURES, Detectors, Neighbours, Temperature
from unit.router import support

# A detector that looks at nothing but how far "none of the categories" is ahead.
ONLY_NONE = Detectors(np.eye(1, len(OUTLIER_FEATURES), dtype=np.float32) / 10, np.zeros(1, np.float32))


def test_probabilities_sum_to_one_and_scores_stay_in_range() -> None:
    artifact = support.artifact()
    scores = artifact.model.scores(support.some_features(artifact.novelty))
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-5)
    assert ((scores.out_of_distribution >= 0) & (scores.out_of_distribution <= 1)).all()


def test_rows_do_not_depend_on_each_other() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.novelty)
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
    features = support.some_features(artifact.novelty)
    cold = replace(artifact.model, neighbour_share=0.0, temperature=Temperature(0, 0)).scores(features)
    warm = replace(artifact.model, neighbour_share=0.0, temperature=Temperature(1, 0)).scores(features)
    assert (warm.probabilities.max(1) < cold.probabilities.max(1)).all()
    assert (warm.probabilities.argmax(1) == cold.probabilities.argmax(1)).all()


def test_a_mixture_that_is_tempered_changes_no_winner() -> None:
    mixture = np.array([[0.7, 0.2, 0.1]], np.float32)
    np.testing.assert_allclose(Temperature().temper(mixture), mixture, atol=1e-5)
    # Probabilities to the power of 2, as exp(0.6931) is 2.
    np.testing.assert_allclose(
        Temperature(mixed=-np.log(2)).temper(mixture), [[0.49, 0.04, 0.01]] / np.float32(0.54), atol=1e-4
    )


def test_any_detector_makes_a_prompt_strange() -> None:
    detectors = Detectors(np.eye(2, dtype=np.float32), np.array([-1, -2], np.float32))
    found = detectors.score(np.array([[0, 0], [1, 0], [0, 2], [9, 0]], np.float32))
    ordinary = np.array(
        [1 / (1 + np.exp(-1)) / (1 + np.exp(-2)), 0.5 / (1 + np.exp(-2)), 0.5 / (1 + np.exp(-1)), 0.0003]
    )
    np.testing.assert_allclose(found, 1 - ordinary, atol=1e-3)


def test_a_gate_takes_its_share_and_leaves_the_rest_in_proportion() -> None:
    artifact = support.artifact()
    features = support.some_features(artifact.novelty)
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
    features = support.some_features(artifact.novelty)
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
    features = support.some_features(artifact.novelty)
    heads = artifact.model.heads
    louder = replace(heads, bias=heads.bias + np.array([0, 0, 0, 5], np.float32))
    # The score of strangeness must not move the temperature here.
    still = replace(artifact.model, temperature=Temperature(0.1, 0.0), detectors=ONLY_NONE)
    before = still.scores(features)
    after = replace(still, heads=louder).scores(features)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-6)
    assert (after.out_of_distribution > before.out_of_distribution).all()
