"""Texts that are made: variations of prompts, outliers, phrases that would take a model over."""

import numpy as np
import pytest

from coe.router.metrics import auroc
from coe.router.training import noise
from coe.router.training.augment import augmented, typing_errors
from coe.router.training.data import LabelledPrompt
from coe.router.training.injections import fit_phrases, injections, ways
from coe.router.training.seeds import seeds


def test_variations_are_reproducible_and_keep_the_label() -> None:
    prompt = LabelledPrompt("Write a loop in Python that sums a list.", "coding", "s")
    made = [augmented(prompt, np.random.default_rng(seed)) for seed in range(20)]
    assert {variation.domain for variation in made} == {"coding"}
    assert len({variation.text for variation in made}) > 8
    assert made == [augmented(prompt, np.random.default_rng(seed)) for seed in range(20)]


def test_typing_errors_leave_digits_and_signs() -> None:
    made = typing_errors("12 + 34 = x1", 1.0, np.random.default_rng(0))
    assert made.startswith("12 + 34 = ")


TEXTS = noise.Texts(
    ["Write a loop in Python. It counts to ten.", "What is a tort? Give an example of one."],
    {"ja": ["日本の首都はどこですか。東京です。"], "es": ["¿Qué hora es? Son las tres de la tarde."]},
)


@pytest.mark.parametrize("way", sorted(noise.WAYS))
def test_outliers_are_made_in_every_way(way: str) -> None:
    made = noise.make(way, TEXTS, 5, np.random.default_rng(0))
    assert len(made) == 5
    assert all(text.strip() and text not in TEXTS.plain for text in made)
    assert made == noise.make(way, TEXTS, 5, np.random.default_rng(0))


def test_switching_takes_two_languages() -> None:
    for way in ("switching/words", "switching/phrases", "switching/sentences"):
        for text in noise.make(way, TEXTS, 10, np.random.default_rng(0)):
            written = [
                any(part in text for part in parts)
                for parts in (("日本", "首都"), ("Qué", "hora"), ("Pyth", "tort", "Write", "What"))
            ]
            assert sum(written) == 2, text
    assert noise.make("switching/words", noise.Texts(TEXTS.plain, {}), 3, np.random.default_rng(0)) == []


def test_phrases_of_a_way_that_was_not_learnt_are_still_told_from_ordinary_prompts() -> None:
    rng = np.random.default_rng(0)
    ordinary = [prompt.text for prompt in seeds()]
    some = [ordinary[row] for row in rng.permutation(len(ordinary))]
    found = fit_phrases([way for way in ways() if way != "override"], some[:-200], rng)
    strange = [found.features(text)[1] for text in injections("override", 200, rng)]
    assert auroc(np.array([found.features(text)[1] for text in some[-200:]]), np.array(strange)) > 0.9
