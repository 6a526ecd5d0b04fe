"""Estimates learned from what the loop has seen: seconds per step, tokens per answer, costs per batch. Pure."""

import math
from collections.abc import Iterable

from coe.expert_worker.batch import Batch, Sequence
from coe.scheduling import Exponential, LearnedCosts, Line

WEIGHT = 0.1


class Expected:
    """Feeds the scheduling policy's estimates."""

    def __init__(self, costs: LearnedCosts, popularity: Exponential, max_batch: int) -> None:
        self.costs = costs
        self.popularity = popularity
        self._max_batch = max_batch
        # Seconds per token as a function of the batch size.
        self._step = Line(0.02, 0.0)
        self._tokens = 32.0

    def remaining_s(self, live: Iterable[Sequence]) -> float:
        """Seconds until the last of these sequences ends, assuming answers of typical length."""
        left = [min(self._tokens, sequence.prompt.sampling.max_tokens) - sequence.tokens for sequence in live]
        return max(1.0, *left) * self._step.at(len(left)) if left else 0.0

    def saw_step(self, sequences: int, tokens: int, seconds: float) -> None:
        """A pure decode step: `sequences` sequences generated `tokens` tokens in all, none of them a first token."""
        self._step.observe(sequences, seconds * sequences / tokens)

    def saw_answer(self, tokens: int) -> None:
        self._tokens += WEIGHT * (tokens - self._tokens)

    def saw_batch(self, batch: Batch, now: float) -> None:
        """A batch that was refilled as it ran counts as several full batches, each with its share of the time."""
        if batch.served and now > batch.granted_at:
            rounds = math.ceil(batch.served / self._max_batch)
            self.costs.observe_batch(math.ceil(batch.served / rounds), (now - batch.granted_at) / rounds)
