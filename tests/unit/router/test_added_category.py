"""A category that is added to a router that was trained before."""

import numpy as np
import pytest

from coe.encoder import Encoder
from coe.platform.errors import ArtifactError
from coe.router.classifier import Classifier
from coe.router.training.build import Trained
from coe.router.training.gate import add_category


def test_a_category_is_added_without_training_the_others(trained: Trained, encoder: Encoder) -> None:
    base = trained.artifact
    texts = [f"how do I grow a {flower} in my garden number {n}" for flower in ("tulip", "rose") for n in range(10)]
    extended = add_category(base, "gardening", texts, encoder)
    before, after = Classifier(base, encoder), Classifier(extended, encoder)
    asked = ["a rose in the garden", "a python loop", "the judge and the contract"]
    assert [decision.distribution[0].category for decision in after.classify(asked)] == ["gardening", "coding", "law"]
    assert [decision.distribution[0].category for decision in before.classify(asked)][1:] == ["coding", "law"]
    with pytest.raises(ArtifactError, match="already knows"):
        add_category(extended, "law", texts, encoder)
    with pytest.raises(ArtifactError, match="at least"):
        add_category(base, "gardening", texts[:3], encoder)
    for name in ("gardening/roses", " ", "a\ud800"):
        with pytest.raises(ArtifactError, match="is not a valid category name"):
            add_category(base, name, texts, encoder)


def test_a_category_that_was_added_is_replaced(trained: Trained, encoder: Encoder) -> None:
    def asking(*flowers: str) -> list[str]:
        return [f"how do I grow a {flower} in my garden number {n}" for flower in flowers for n in range(10)]

    roses = add_category(trained.artifact, "roses", asking("rose"), encoder)
    poems = [f"a poem of love by the sea, number {n}" for n in range(10)]
    both = add_category(roses, "love poems", poems, encoder)
    again = add_category(both, "roses", asking("rose", "tulip"), encoder)
    assert again.model.categories == ("coding", "general", "law", "love poems", "roses")
    assert again.model.neighbours.labels.max() == 4
    assert (again.model.neighbours.labels == 4).sum() == 20
    fresh = add_category(
        add_category(trained.artifact, "love poems", poems, encoder), "roses", asking("rose", "tulip"), encoder
    )
    np.testing.assert_array_equal(again.model.neighbours.labels, fresh.model.neighbours.labels)
    # The gate of the poems was fitted beside the former roses, so it differs a little.
    np.testing.assert_allclose(again.model.gate_weight[1], fresh.model.gate_weight[1], atol=1e-5)
