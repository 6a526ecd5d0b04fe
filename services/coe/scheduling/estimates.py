"""Estimates that policies plan with, learned from what was measured."""

import math
from collections.abc import Callable


class Exponential:
    """Share of prompts per expert; a prompt's weight halves every `half_life` prompts after it."""

    def __init__(self, half_life: float = 500.0) -> None:
        self._growth = 2.0 ** (1.0 / half_life)
        self._weight = 1.0
        self._total = 0.0
        self._counts: dict[str, float] = {}

    def observe(self, expert: str) -> None:
        self._counts[expert] = self._counts.get(expert, 0.0) + self._weight
        self._total += self._weight
        self._weight *= self._growth
        if self._weight > 1e100:
            self._rescale()

    def probability(self, expert: str) -> float:
        return self._counts.get(expert, 0.0) / self._total if self._total else 0.0

    def _rescale(self) -> None:
        self._counts = {expert: count / self._weight for expert, count in self._counts.items()}
        self._total /= self._weight
        self._weight = 1.0


class LearnedCosts:
    """Batch time base_s + per_prompt_s * n (CoServe's K n + B), load time bytes / bandwidth; both fitted as they pass.

    The fit is least squares over measurements whose weight falls by `forget` with each new one.
    """

    def __init__(
        self,
        bytes_of: Callable[[str], int],
        max_batch: int,
        *,
        bytes_per_second: float = 2e9,
        base_s: float = 0.3,
        per_prompt_s: float = 0.02,
        forget: float = 0.98,
    ) -> None:
        self._bytes_of = bytes_of
        self._max_batch = max_batch
        self._bandwidth = bytes_per_second
        self._loads = 0
        self.base_s = base_s
        self.per_prompt_s = per_prompt_s
        self._forget = forget
        self._w = self._n = self._nn = self._s = self._ns = 0.0
        self.version = 0

    def load_s(self, expert: str) -> float:
        return self._bytes_of(expert) / self._bandwidth

    def run_s(self, expert: str, prompts: int) -> float:
        return self.base_s * math.ceil(prompts / self._max_batch) + self.per_prompt_s * prompts

    def observe_load(self, nbytes: int, seconds: float) -> None:
        if nbytes > 0 and seconds > 0:
            self.version += 1
            self._loads += 1
            self._bandwidth += max(0.2, 1 / self._loads) * (nbytes / seconds - self._bandwidth)

    def observe_batch(self, prompts: int, seconds: float) -> None:
        self.version += 1
        keep = self._forget
        self._w = self._w * keep + 1
        self._n = self._n * keep + prompts
        self._nn = self._nn * keep + prompts * prompts
        self._s = self._s * keep + seconds
        self._ns = self._ns * keep + prompts * seconds
        spread = self._w * self._nn - self._n * self._n
        slope = (self._w * self._ns - self._n * self._s) / spread if spread > 1e-9 * self._nn else 0.0
        mean_n, mean_s = self._n / self._w, self._s / self._w
        self.per_prompt_s = min(max(slope, 0.0), mean_s / mean_n)
        self.base_s = mean_s - self.per_prompt_s * mean_n
