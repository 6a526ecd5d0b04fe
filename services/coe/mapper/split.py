"""Parts of an outcome file to fit and to judge on. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from coe.mapper.outcomes import Outcomes

TEST_SHARE = 1 / 3
FOLDS = 5


def groups(outcomes: Outcomes) -> NDArray[np.int64]:
    """Prompts with the same text, spaces apart, share a group: they must stand on one side of a split."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(" ".join(prompt.split()), len(seen)) for prompt in outcomes.prompts])


def hold_out(outcomes: Outcomes, seed: int, share: float = TEST_SHARE) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(train, test) row numbers: of each category about `share` is held out, groups kept whole."""
    random = np.random.default_rng(seed)
    group = groups(outcomes)
    first = np.unique(group, return_index=True)[1]
    test_groups: list[int] = []
    categories = np.array(outcomes.categories)[first]
    for category in np.unique(categories):
        members = random.permutation(np.flatnonzero(categories == category))
        # The fraction is rounded at random, so that many small categories lose their share too.
        test_groups += members[: int(share * len(members) + random.random())].tolist()
    test = np.isin(group, test_groups)
    return np.flatnonzero(~test), np.flatnonzero(test)


def folds(group: NDArray[np.int64], count: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """`count` times (rest, fold), groups kept whole."""
    random = np.random.default_rng(seed)
    fold_of = random.permutation(group.max() + 1) % count
    for fold in range(count):
        inside = fold_of[group] == fold
        yield np.flatnonzero(~inside), np.flatnonzero(inside)


def without(outcomes: Outcomes, other: Outcomes) -> Outcomes:
    """The prompts of `outcomes` whose text is not among those of `other`: nothing is fitted on what is judged."""
    known = {" ".join(prompt.split()) for prompt in other.prompts}
    return outcomes.rows([row for row, prompt in enumerate(outcomes.prompts) if " ".join(prompt.split()) not in known])
