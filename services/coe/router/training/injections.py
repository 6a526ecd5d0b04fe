"""Generates prompt-injection phrases from `injections.yaml` and learns the weights of `Phrases` from them."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from coe.router.phrases import BUCKETS, SPANS, Phrases, buckets, tokens

ORDINARY, ERRANDS = "ordinary", "errands"
# Phrases generated for each way, and most sentences of ordinary prompts to contrast them with.
MADE, MOST_SENTENCES = 400, 12_000
# Ordinary prompts to mine for hard negatives.
MOST_MINED = 6_000
# Repetitions of the ordinary phrases whose wording resembles an injection.
ORDINARY_COUNT = 8
# Fewest and most words of a training sentence.
FEWEST_WORDS, MOST_WORDS = 3, 24
MOST_CHARS = 3_000
INVERSE_REGULARISATION = 0.3

_END = re.compile(r"(?<=[.!?。！？;:])\s+|\n")


def ways() -> list[str]:
    return [name for name in _phrases() if name not in (ORDINARY, ERRANDS)]


def injections(way: str, count: int, rng: np.random.Generator) -> list[str]:
    """`count` random phrases of one way, with an errand filled in where there is a placeholder."""
    known, errands = _phrases()[way], _phrases()[ERRANDS]
    drawn = zip(rng.integers(len(known), size=count), rng.integers(len(errands), size=count), strict=True)
    return [known[phrase].replace("{}", errands[errand]) for phrase, errand in drawn]


def fit_phrases(learnt: Iterable[str], prompts: Sequence[str], rng: np.random.Generator) -> Phrases:
    """Learns to separate phrases of the ways `learnt` from sentences of ordinary `prompts`.

    A text scores as high as its likeliest phrase, and a long text has many. A second fit therefore adds hard negatives:
    the phrases of ordinary prompts that the first fit finds likeliest.
    """
    strange = [words for way in learnt for text in injections(way, MADE, rng) for words in _sentences(text)]
    ordinary = [words for text in prompts for words in _sentences(text)]
    ordinary = [ordinary[row] for row in rng.permutation(len(ordinary))[:MOST_SENTENCES]]
    ordinary += [words for text in _phrases()[ORDINARY] for words in _sentences(text)] * ORDINARY_COUNT
    first = _fit(strange, ordinary)
    mined = [prompts[row] for row in rng.permutation(len(prompts))[:MOST_MINED].tolist()]
    hard = [first.likeliest(text, span) for text in mined for span in SPANS]
    return _fit(strange, [*ordinary, *(words for words in hard if len(words) >= FEWEST_WORDS)])


def _fit(strange: Sequence[Sequence[str]], ordinary: Sequence[Sequence[str]]) -> Phrases:
    targets = np.repeat([1, 0], [len(strange), len(ordinary)])
    with threadpool_limits(1):
        head = LogisticRegression(C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=300)
        head.fit(_counted([*strange, *ordinary]), targets)
    return Phrases(head.coef_[0].astype(np.float32), float(head.intercept_[0]))


@cache
def _phrases() -> dict[str, list[str]]:
    text = (files("coe.router.training") / "injections.yaml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = yaml.safe_load(text)
    return found


def _sentences(text: str) -> list[list[str]]:
    """The words of each sentence; long sentences are split, and short pieces dropped."""
    found = []
    for sentence in _END.split(text[:MOST_CHARS]):
        words = tokens(sentence)
        found += [words[start : start + MOST_WORDS] for start in range(0, len(words), MOST_WORDS)]
    return [words for words in found if len(words) >= FEWEST_WORDS]


def _counted(sentences: Sequence[Sequence[str]]) -> csr_matrix:
    """A binary matrix [n, BUCKETS]: 1 where a sentence has a word or pair in the bucket."""
    has: list[NDArray[np.int64]] = [
        np.unique(np.concatenate([buckets("", words), buckets(" ", words, words[1:]), buckets("  ", words, words[2:])]))
        for words in sentences
    ]
    rows = np.repeat(np.arange(len(has)), [len(some) for some in has])
    ones = np.ones(len(rows), np.float32)
    return csr_matrix((ones, (rows, np.concatenate(has))), shape=(len(has), BUCKETS))
