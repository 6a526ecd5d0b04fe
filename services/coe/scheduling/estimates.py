"""Estimates that policies plan with, learned from measurements: expert popularity, batch times and load times."""

import math
from collections.abc import Callable


class Exponential:
    """Each expert's share of the prompts, exponentially decayed: a prompt's weight halves every `half_life` prompts."""

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


class Line:
    """Seconds as base + each * n, an online least-squares fit. Every new measurement multiplies the weight of all
    earlier ones by `forget`. `base` and `each` are never negative."""

    def __init__(self, base: float, each: float, forget: float = 0.98) -> None:
        self.base = base
        self.each = each
        self._forget = forget
        self._w = self._n = self._nn = self._s = self._ns = 0.0

    def at(self, n: float) -> float:
        return self.base + self.each * n

    def observe(self, n: int, seconds: float) -> None:
        keep = self._forget
        self._w = self._w * keep + 1
        self._n = self._n * keep + n
        self._nn = self._nn * keep + n * n
        self._s = self._s * keep + seconds
        self._ns = self._ns * keep + n * seconds
        spread = self._w * self._nn - self._n * self._n
        slope = (self._w * self._ns - self._n * self._s) / spread if spread > 1e-9 * self._nn else 0.0
        mean_n, mean_s = self._n / self._w, self._s / self._w
        self.each = min(max(slope, 0.0), mean_s / mean_n)
        self.base = mean_s - self.each * mean_n


class LearnedCosts:
    """Batch time as base_s + per_prompt_s * n (CoServe's K n + B) and load time as bytes / bandwidth, fitted online."""

    def __init__(
        self,
        bytes_of: Callable[[str], int],
        max_batch: int,
        *,
        bytes_per_second: float = 2e9,
        base_s: float = 0.3,
        per_prompt_s: float = 0.02,
    ) -> None:
        self._bytes_of = bytes_of
        self._max_batch = max_batch
        self._bandwidth = bytes_per_second
        self._loads = 0
        self._batch = Line(base_s, per_prompt_s)
        self.version = 0

    def load_s(self, expert: str) -> float:
        return self._bytes_of(expert) / self._bandwidth

    def run_s(self, expert: str, prompts: int) -> float:
        return self._batch.base * math.ceil(prompts / self._max_batch) + self._batch.each * prompts

    def observe_load(self, nbytes: int, seconds: float) -> None:
        if nbytes > 0 and seconds > 0:
            self.version += 1
            self._loads += 1
            self._bandwidth += max(0.2, 1 / self._loads) * (nbytes / seconds - self._bandwidth)

    def observe_batch(self, prompts: int, seconds: float) -> None:
        self.version += 1
        self._batch.observe(prompts, seconds)
