"""Nothing stands on both sides of a split."""

import numpy as np

from coe.mapper.outcomes import Outcomes
from coe.mapper.split import folds, groups, hold_out, without


def outcomes(prompts: list[str], categories: list[str]) -> Outcomes:
    names = tuple(str(index) for index in range(len(prompts)))
    return Outcomes(("m",), ("d",) * len(names), names, tuple(prompts), tuple(categories), np.ones((len(names), 1)))


def test_the_same_text_stays_on_one_side() -> None:
    data = outcomes([f"prompt {number // 2}" for number in range(200)], ["a"] * 100 + ["b"] * 100)
    train, test = hold_out(data, seed=1)
    texts = [{data.prompts[row] for row in rows} for rows in (train, test)]
    assert not texts[0] & texts[1]
    assert sorted([*train, *test]) == list(range(200))
    share_of_a = np.mean([data.categories[row] == "a" for row in test])
    assert 0.45 < share_of_a < 0.55
    assert 60 < len(test) < 72


def test_a_split_depends_on_its_seed_alone() -> None:
    data = outcomes([f"p{number}" for number in range(60)], ["a"] * 60)
    assert list(hold_out(data, 5)[1]) == list(hold_out(data, 5)[1])
    assert list(hold_out(data, 5)[1]) != list(hold_out(data, 6)[1])


def test_folds_cover_each_prompt_once() -> None:
    group = groups(outcomes([f"p{number // 3}" for number in range(30)], ["a"] * 30))
    seen = np.concatenate([fold for _, fold in folds(group, 4, 0)])
    assert sorted(seen) == list(range(30))
    for rest, fold in folds(group, 4, 0):
        assert not set(group[rest]) & set(group[fold])


def test_judged_prompts_are_not_fitted_on() -> None:
    left = without(outcomes(["a  b", "c"], ["x", "x"]), outcomes(["a b"], ["x"]))
    assert left.prompts == ("c",)
