"""Solves plans for a table under budgets, using the training part only. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from coe.mapper.solve import Limits, Solution, solve
from coe.mapper.table import QualityTable
from coe.platform.errors import InvalidPrompt

Floats = NDArray[np.float64]
# Standard errors by which a plan stays below its budget, so that it holds on other prompts too.
GUARD = 1.2
# Number of prompts that a plan will be evaluated on, as a fraction of those it is made from.
JUDGED = 0.5


def guarded(
    table: QualityTable, active: Floats, budget_b: float | None, prompts: int, overrun_b: float = 0.0
) -> Solution | None:
    """The best plan whose average active parameters, plus `GUARD` standard errors, are within the budget.

    The standard error is that of the difference between the means of `prompts` training prompts and half as many
    others. `overrun_b` is by how much such plans are known to exceed their expectation. A single expert for everything
    needs no margin, and is the plan if its expected quality is higher. None when nothing fits.
    """
    if budget_b is None:
        return solve(table.quality, table.share, active, active, Limits(), table.eligible)
    limit = budget_b - overrun_b
    found: Solution | None = None
    # The margin depends on the plan, which depends on the margin: two rounds come close enough.
    for _ in range(2):
        try:
            found = solve(table.quality, table.share, active, active, Limits(limit), table.eligible)
        except InvalidPrompt:
            break
        limit = budget_b - overrun_b - margin(active[found.chosen], table.share, prompts)
    single = _best_alone(table, active, budget_b)
    return single if found is None or (single is not None and single.quality > found.quality) else found


def _best_alone(table: QualityTable, active: Floats, budget_b: float) -> Solution | None:
    """The best single expert for everything that is eligible in all cells and within the budget; None if none is."""
    quality = np.where(table.eligible.all(0) & (active <= budget_b), table.share @ table.quality, -np.inf)
    best = int(quality.argmax())
    if np.isinf(quality[best]):
        return None
    chosen = np.full(len(table.cells), best, np.int64)
    return Solution(chosen, float(quality[best]), float(active[best]), float(active[best]))


def margin(cost: Floats, share: Floats, prompts: int) -> float:
    """`GUARD` standard errors of the average cost on other prompts, in billions. `cost` and `share` are per cell."""
    variance = float(share @ cost**2 - (share @ cost) ** 2)
    return GUARD * float(np.sqrt(max(0.0, variance) * (1 + 1 / JUDGED) / prompts))


def assign(table: QualityTable, solution: Solution, cells: Sequence[str]) -> NDArray[np.int64]:
    """The expert of each prompt, given the name of its cell."""
    row_of = {name: row for row, name in enumerate(table.cells)}
    return solution.chosen[[row_of[cell] for cell in cells]]
