"""Splits outcomes into parts to fit on and to evaluate on. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from coe.mapper.outcomes import Outcomes

TEST_SHARE = 1 / 3
FOLDS = 5


def groups(outcomes: Outcomes) -> NDArray[np.int64]:
    """The group of each prompt. Prompts that differ only in whitespace share one: a split must keep them together."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(" ".join(prompt.split()), len(seen)) for prompt in outcomes.prompts])


def hold_out(outcomes: Outcomes, seed: int, share: float = TEST_SHARE) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers (train, test): about `share` of each category is held out, with groups kept whole."""
    random = np.random.default_rng(seed)
    group = groups(outcomes)
    first = np.unique(group, return_index=True)[1]
    test_groups: list[int] = []
    categories = np.array(outcomes.categories)[first]
    for category in np.unique(categories):
        members = random.permutation(np.flatnonzero(categories == category))
        # Rounded at random, so that small categories contribute their share too.
        test_groups += members[: int(share * len(members) + random.random())].tolist()
    test = np.isin(group, test_groups)
    return np.flatnonzero(~test), np.flatnonzero(test)


def folds(group: NDArray[np.int64], count: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields row numbers (rest, fold) `count` times, with groups kept whole."""
    random = np.random.default_rng(seed)
    fold_of = random.permutation(group.max() + 1) % count
    for fold in range(count):
        inside = fold_of[group] == fold
        yield np.flatnonzero(~inside), np.flatnonzero(inside)


def without(outcomes: Outcomes, other: Outcomes) -> Outcomes:
    """The prompts of `outcomes` whose text is not in `other`, so that nothing is fitted on the evaluation prompts."""
    known = {" ".join(prompt.split()) for prompt in other.prompts}
    return outcomes.rows([row for row, prompt in enumerate(outcomes.prompts) if " ".join(prompt.split()) not in known])
