"""Fits an artifact's Novelty, and computes the novelty features of training prompts out of source."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from coe.router.novelty import Novelty
from coe.router.spelling import Spelling
from coe.router.training.data import LabelledPrompt
from coe.router.training.injections import fit_phrases, ways
from coe.router.training.noise import INJECTION, family

FOLDS = 5
# The fold that leaves nothing out.
NOTHING = -1


def fit_novelty(
    prompts: Sequence[LabelledPrompt],
    vocabulary: Sequence[str],
    rng: np.random.Generator,
    without: frozenset[str] = frozenset(),
) -> Novelty:
    """Fits a Novelty to ordinary prompts, of any category or none. `without` names ways of injection to leave out."""
    texts = [prompt.text for prompt in prompts]
    learnt = [way for way in ways() if f"{INJECTION}/{way}" not in without]
    return Novelty(Spelling.of(texts, vocabulary), fit_phrases(learnt, texts, rng))


def out_of_source(
    prompts: Sequence[LabelledPrompt],
    learnt: NDArray[np.bool_],
    held: NDArray[np.bool_],
    vocabulary: Sequence[str],
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Features of each prompt by a Novelty that saw nothing of its source or, for an injection, of its way.

    Only `learnt` prompts are learnt from. For a `held` prompt nothing is left out: others of its source are known, as
    they will be when such a prompt arrives. Nor is anything left out for outliers other than injections. Outliers are
    recognised by having no domain.
    """
    fold = _folds(prompts, held)
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(prompts)
    done = 0
    for number in range(NOTHING, FOLDS):
        rows = np.flatnonzero(fold == number).tolist()
        some = [prompts[row] for row in np.flatnonzero(learnt & (fold != number)).tolist()]
        without = frozenset(prompts[row].source for row in rows if number != NOTHING and not prompts[row].domain)
        novelty = fit_novelty(some, vocabulary, np.random.default_rng([seed, number + 1]), without)
        for row in rows:
            found[row] = novelty.features(prompts[row].text)
            done += 1
            if done % 500 == 0 or done == len(prompts):
                progress(done, len(prompts))
    return np.stack(found)


def _folds(prompts: Sequence[LabelledPrompt], held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The fold that leaves out each prompt's source; sources and ways of injection are spread over the folds."""
    names = [
        "" if is_held or (not prompt.domain and family(prompt.source) != INJECTION) else prompt.source
        for prompt, is_held in zip(prompts, held, strict=True)
    ]
    ordinary = sorted({name for name, prompt in zip(names, prompts, strict=True) if prompt.domain and name})
    strange = sorted({name for name, prompt in zip(names, prompts, strict=True) if not prompt.domain and name})
    fold_of = {name: number % FOLDS for some in (ordinary, strange) for number, name in enumerate(some)}
    return np.array([fold_of[name] if name else NOTHING for name in names], np.int64)
