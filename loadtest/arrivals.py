"""Generates arrival times, in seconds from the start. Pure.

Open loop: arrivals do not wait for answers, as users do not wait for each other.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.loadprofile import Phase


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    measured: bool
    # Index of the phase.
    phase: int = 0


def schedule(phases: tuple[Phase, ...], seed: int) -> Iterator[Arrival]:
    """Yields the arrivals of all phases in ascending order."""
    rng = random.Random(seed)
    start = 0.0
    for number, phase in enumerate(phases):
        for offset in _offsets(phase, rng):
            yield Arrival(start + offset, phase.measured, number)
        start += phase.duration_s


def _offsets(phase: Phase, rng: random.Random) -> Iterator[float]:
    if phase.arrivals == "steady":
        yield from (index / phase.rate for index in range(int(phase.rate * phase.duration_s)))
        return
    if phase.arrivals == "poisson":
        yield from _poisson(phase.rate, phase.duration_s, rng)
        return
    # Bursty: Poisson arrivals at the peak rate, during the share of time that preserves the mean.
    for busy in _poisson(phase.rate * phase.burst, phase.duration_s / phase.burst, rng):
        burst, within = divmod(busy, phase.burst_s)
        yield burst * phase.burst_s * phase.burst + within


def _poisson(rate: float, duration_s: float, rng: random.Random) -> Iterator[float]:
    at = rng.expovariate(rate)
    while at < duration_s:
        yield at
        at += rng.expovariate(rate)
