"""Chooses experts per prompt under a budget: the best `quality - lambda * parameters`, with one lambda. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Largest lambda tried, in quality per billion parameters: a billion then outweighs any difference in quality.
LARGEST = 1.0
STEPS = 60


def choose(quality: Floats, active: Floats, penalty: float) -> NDArray[np.int64]:
    """The expert of each prompt, given quality [prompts, experts] and active parameters [experts].

    Quality is NaN or -inf where an expert must not be chosen.
    """
    worth = np.where(np.isnan(quality), -np.inf, quality) - penalty * active[None, :]
    best: NDArray[np.int64] = worth.argmax(1)
    return best


def penalty_for(quality: Floats, active: Floats, budget_b: float | None) -> float:
    """The smallest lambda whose choices use at most `budget_b` on average; LARGEST if there is none."""
    if budget_b is None or active[choose(quality, active, 0.0)].mean() <= budget_b:
        return 0.0
    low, high = 0.0, LARGEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        if active[choose(quality, active, middle)].mean() <= budget_b:
            high = middle
        else:
            low = middle
    return high
