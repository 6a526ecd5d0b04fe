"""The programme of `coe.mapper.solve` under a limit on active parameters alone, with numpy alone. Pure.

A multiple-choice knapsack by dynamic programming: what serves a mapping has no scipy, and a prompt may name any number.
"""

import numpy as np
from numpy.typing import NDArray

from coe.platform.errors import InvalidPrompt

# What a budget is divided into. Costs are rounded up: the limit holds, and less than a unit of a cell is left unused.
UNITS = 20_000
# Sums of costs that differ by less are equal.
TIE = 1e-9


def chosen_experts(
    value: NDArray[np.float64],
    share: NDArray[np.float64],
    active: NDArray[np.float64],
    budget_b: float,
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Of each cell, the index of its expert. `value` is [cells, experts]. Raises InvalidPrompt when nothing fits."""
    cost = np.where(allowed, share[:, None] * active[None, :], np.inf)
    least = cost.min(1)
    room = budget_b - float(least.sum())
    if not room >= -TIE:
        raise InvalidPrompt(
            f"No expert fits the budget: the cheapest choice uses {least.sum():.1f} B active parameters on average",
            least_active_params_b=round(float(least.sum()), 3),
        )
    chosen = _filled(value, (cost - least[:, None]) / max(room, TIE), allowed)
    alone = _alone(value, allowed & (active <= budget_b + TIE))
    rows = np.arange(len(value))
    if alone is not None and value[:, alone].sum() > value[rows, chosen].sum():
        return np.full(len(value), alone, np.int64)
    return chosen


def _filled(value: NDArray[np.float64], part: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The best choice within the room, of which each expert takes a `part` [cells, experts]."""
    units = np.where(allowed & (part <= 1), np.ceil(part * UNITS - TIE), UNITS + 1).astype(np.int64)
    best = np.zeros(UNITS + 1)
    taken = np.empty((len(value), UNITS + 1), np.int64)
    for cell, (worth, needed) in enumerate(zip(value, units.tolist(), strict=True)):
        options = np.full((len(worth), UNITS + 1), -np.inf)
        for expert, need in enumerate(needed):
            if need <= UNITS:
                options[expert, need:] = best[: UNITS + 1 - need] + worth[expert]
        taken[cell] = options.argmax(0)
        best = options.max(0)
    chosen = np.empty(len(value), np.int64)
    left = UNITS
    for cell in reversed(range(len(value))):
        chosen[cell] = taken[cell, left]
        left -= int(units[cell, chosen[cell]])
    return chosen


def _alone(value: NDArray[np.float64], allowed: NDArray[np.bool_]) -> int | None:
    """The best expert that may answer everything: of one there is nothing to be rounded."""
    total = np.where(allowed.all(0), value.sum(0), -np.inf)
    best = int(total.argmax())
    return None if np.isinf(total[best]) else best
