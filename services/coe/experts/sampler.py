"""Draws one token from one row of logits. All randomness of a sequence comes from its own seed."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from coe.experts.grammar import HeldAnswer
from coe.experts.sampling_params import SamplingParams

Logits = npt.NDArray[np.float32]
# Nucleus sampling tries this many of the likeliest tokens before it sorts the whole vocabulary.
LIKELY = 1024


class Sampler:
    """The sampling state of one sequence: its random stream, the tokens seen so far for the penalties, and the state of
    its grammar if it has one.
    """

    def __init__(
        self, params: SamplingParams, prompt: list[int], vocabulary: int, held: HeldAnswer | None = None
    ) -> None:
        self._params = params
        self._held = held
        # Without a seed, Philox takes one from the system's entropy.
        self._random = np.random.Generator(np.random.Philox(key=params.seed))
        self._seen: npt.NDArray[np.bool_] | None = None
        if params.repetition_penalty != 1:
            self._seen = np.zeros(vocabulary, np.bool_)
            self._seen[prompt] = True
        # How often each token occurs in the answer.
        self._drawn: Logits | None = np.zeros(vocabulary, np.float32) if params.penalises_the_answer else None

    @property
    def complete(self) -> bool:
        """Whether the grammar allows no further token."""
        return self._held is not None and self._held.complete

    @property
    def takes_likeliest(self) -> bool:
        """Whether the next token is the one with the highest logit, and no other logit matters."""
        return self._params.takes_likeliest and self._params.top_logprobs is None and self._held is None

    def sample(self, logits: Logits | None, likeliest: int) -> int:
        """The next token. `logits` [V] is not modified; `likeliest` is the index of its first maximum. Ties go to the
        lowest id.

        `logits` may be None if `takes_likeliest`. Raises InvalidPrompt when an answer can't follow its grammar.
        """
        if self.takes_likeliest:
            return likeliest
        assert logits is not None, "this answer needs logits"
        if self._held is not None:
            logits = np.where(self._held.allowed(), logits, np.float32(-np.inf))
        if self._seen is not None:
            logits = penalised(logits, self._seen, self._params.repetition_penalty)
        if self._drawn is not None:
            logits = lowered(logits, self._drawn, self._params.frequency_penalty, self._params.presence_penalty)
        token = int(np.argmax(logits)) if self._params.greedy else self._draw(logits)
        self._take(token)
        return token

    def forced(self, most: int) -> Iterator[int]:
        """Up to `most` tokens that need no logits because the grammar allows nothing else."""
        for token in self._held.forced()[:most] if self._held is not None else ():
            self._take(token)
            yield token

    def _take(self, token: int) -> None:
        if self._seen is not None:
            self._seen[token] = True
        if self._drawn is not None:
            self._drawn[token] += 1
        if self._held is not None:
            self._held.take(token)

    def _draw(self, logits: Logits) -> int:
        ids, weights = candidates(logits, self._params)
        total = np.cumsum(weights)
        index = int(np.searchsorted(total, self._random.random() * total[-1], side="right"))
        return int(ids[min(index, len(ids) - 1)])


def penalised(logits: Logits, seen: npt.NDArray[np.bool_], penalty: float) -> Logits:
    """Makes seen tokens less likely, whatever the sign of their logits (CTRL, arXiv 1909.05858, as in transformers)."""
    lowered = np.where(logits > 0, logits / np.float32(penalty), logits * np.float32(penalty))
    return np.where(seen, lowered, logits)


def lowered(logits: Logits, drawn: Logits, frequency: float, presence: float) -> Logits:
    """Makes tokens of the answer less likely, as OpenAI's API defines it. `drawn` [V] counts their occurrences."""
    return logits - np.float32(frequency) * drawn - np.float32(presence) * (drawn > 0)


def candidates(logits: Logits, params: SamplingParams) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ids that may be drawn, and their relative weights.

    Applies, in this order: temperature, top-k, top-p (the smallest set that reaches it), min-p.
    """
    below = logits.astype(np.float64)
    below -= below.max()
    with np.errstate(over="ignore"):  # a temperature near 0 leaves only the likeliest
        weights = np.exp(below / params.temperature)
    ids = _likeliest(weights, params)
    kept = weights[ids]
    if params.top_p < 1:
        whole = kept.sum() if params.top_k else weights.sum()
        reached = np.cumsum(kept) >= params.top_p * whole
        size = int(np.argmax(reached)) + 1 if reached[-1] else len(ids)
        ids, kept = ids[:size], kept[:size]
    if params.min_p > 0:  # relative to the likeliest, whose weight is 1
        ids, kept = ids[kept >= params.min_p], kept[kept >= params.min_p]
    return ids, kept


def _likeliest(weights: npt.NDArray[np.float64], params: SamplingParams) -> npt.NDArray[np.int64]:
    """Ids by descending weight, only as many as top-k and top-p may keep. Equal weights: lowest id first."""
    if params.top_k:
        return top_ids(weights, params.top_k)
    if params.top_p == 1:  # nothing is cut by rank, so nothing needs sorting
        return np.arange(len(weights))
    count = LIKELY
    while count < len(weights):
        ids = top_ids(weights, count)
        if weights[ids].sum() >= params.top_p * weights.sum():
            return ids
        count *= 8
    return np.argsort(-weights, kind="stable")


def top_ids(weights: npt.NDArray[np.float32] | npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Indices of the `count` greatest weights, in descending order. Equal weights: lowest id first."""
    if count == 1:  # 30 times as fast as the general case
        return np.array([weights.argmax()])
    if count >= len(weights):
        return np.argsort(-weights, kind="stable")
    threshold = np.partition(weights, len(weights) - count)[len(weights) - count]
    ids = np.flatnonzero(weights >= threshold)
    return ids[np.argsort(-weights[ids], kind="stable")][:count]
