"""What is left out to judge by, and how much each prompt weighs."""

import numpy as np
import pytest

from coe.router.novelty import FEATURES
from coe.router.training.data import LabelledPrompt
from coe.router.training.fit import balance
from coe.router.training.folds import domain_rounds, source_rounds
from coe.router.training.novelty import out_of_source
from coe.router.training.seeds import SOURCE


def test_features_come_from_what_did_not_know_the_source() -> None:
    word = "flibbertigibbets"
    texts = [f"please tell me of the {word} number {number}" for number in range(8)]
    given = [LabelledPrompt(text, "law", "one source") for text in texts]
    given += [LabelledPrompt(f"please tell me the number of {name}", "law", f"source {name}") for name in "abcdefgh"]
    held = np.arange(len(given)) == 0
    vocabulary = ["please", "tell", "number"]
    found = out_of_source(given, ~held, held, vocabulary, 0)[:, FEATURES.index("unseen English words")]
    # The word is known for the held prompt of the source, and for no other one of it.
    assert found[0] == 0
    assert (found[1:8] > 0).all()


def test_a_source_is_left_out_whole_when_others_can_stand_in() -> None:
    given = [
        LabelledPrompt("a", "math", "x"),
        LabelledPrompt("b", "math", "y"),
        LabelledPrompt("c", "law", "y"),
        LabelledPrompt("d", "law", "z"),
        LabelledPrompt("e", "poems", "z"),
        LabelledPrompt("f", "math", SOURCE),
    ]
    strangers = ["noise 1", "noise 2", "noise 3", "y"]
    rounds = source_rounds(given, strangers)
    held = [[[prompt.text for prompt in given if fold.holds(prompt)] for fold in one.folds] for one in rounds]
    # Poems come from z alone; two sources of a domain are never left out at once.
    assert held == [[["b", "c"]], [["d"], ["a"]]]
    assert all(fold.hides(prompt) == fold.holds(prompt) for one in rounds for fold in one.folds for prompt in given)
    assert sorted(name for one in rounds for name in one.strangers) == strangers
    assert "y" in rounds[0].strangers


def test_a_category_of_many_languages_is_left_out_by_language() -> None:
    given = [LabelledPrompt(code, "multilingual", "x", code) for code in ("bn", "de", "es", "fr")]
    folds = [fold for one in source_rounds(given, []) for fold in one.folds]
    assert [fold.language for fold in folds] == ["de", "fr"]


def test_a_domain_is_left_out_with_its_seeds_which_are_not_tested_on() -> None:
    collected, seed = LabelledPrompt("a", "law", "x"), LabelledPrompt("b", "law", SOURCE)
    rounds = domain_rounds(["coding", "law", "math"])
    assert [[sorted(fold.domains) for fold in one.folds] for one in rounds] == [[["coding"], ["law"]], [["math"]]]
    fold = rounds[0].folds[1]
    assert (fold.holds(collected), fold.holds(seed)) == (True, False)
    assert (fold.hides(collected), fold.hides(seed)) == (True, True)
    assert not fold.hides(LabelledPrompt("c", "math", "x"))


def test_categories_weigh_the_same_and_sources_by_their_root() -> None:
    given = (
        [LabelledPrompt("", "a", "big")] * 16 + [LabelledPrompt("", "a", "small")] * 4 + [LabelledPrompt("", "b", "x")]
    )
    weight = balance(np.array([0] * 20 + [1]), given, seed_weight=1.0)
    assert weight.mean() == pytest.approx(1)
    assert weight[:20].sum() == pytest.approx(weight[20])
    assert weight[:16].sum() == pytest.approx(2 * weight[16:20].sum())
