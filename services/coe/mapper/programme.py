"""The programme of `coe.mapper.solve`, as HiGHS takes it. Pure."""

import numpy as np
from highspy import HighsModelStatus, HighsVarType

# What `highspy.Highs` is made of. That one has callbacks of its own, and says its name on standard output.
from highspy._core import _Highs
from numpy.typing import NDArray

from coe.platform.errors import InvalidPrompt

OPTIONS: dict[str, bool | float | str] = {
    "output_flag": False,
    # Of HiGHS's own: who solves has one, and the answer is the same on every machine.
    "threads": 1,
    # It stops within 0.01 % or 1e-6 by default: then a larger budget could look worse than a smaller one.
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
}
# What differs by less than 1e-6 is one to HiGHS, whatever the gap: the quality of a rare cell is multiplied.
SCALE = 1000.0


def chosen_experts(
    value: NDArray[np.float64],
    share: NDArray[np.float64],
    active: NDArray[np.float64],
    total: NDArray[np.float64],
    active_params_b: float | None,
    hosted_params_b: float | None,
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Of each cell, the index of its expert. `value` is [cells, experts]. Raises InvalidPrompt when nothing fits."""
    highs = _Highs()
    for name, setting in OPTIONS.items():
        highs.setOptionValue(name, setting)
    cells, experts = value.shape
    x = _binaries(highs, -SCALE * value.ravel(), allowed.ravel())
    one = np.ones(cells)
    highs.addRows(cells, one, one, len(x), x[::experts], x, np.ones(len(x)))
    if active_params_b is not None:
        highs.addRow(-np.inf, active_params_b, len(x), x, (share[:, None] * active).ravel())
    # The variables z are there only when hosting is limited: a multiple-choice knapsack is solved much faster.
    if hosted_params_b is not None:
        z = _binaries(highs, np.zeros(experts), np.ones(experts, np.bool_))
        pairs = np.stack([x, np.tile(z, cells)], axis=1).ravel()
        never, none = np.full(len(x), -np.inf), np.zeros(len(x))
        highs.addRows(len(x), never, none, len(pairs), 2 * x, pairs, np.tile([1.0, -1.0], len(x)))
        highs.addRow(-np.inf, hosted_params_b, experts, z, total)
    highs.run()
    if highs.getModelStatus() != HighsModelStatus.kOptimal:
        raise _nothing_fits(float(share @ np.where(allowed, active, np.inf).min(1)), active_params_b, hosted_params_b)
    chosen: NDArray[np.int64] = np.array(highs.getSolution().col_value)[x].reshape(value.shape).argmax(1)
    return chosen


def _binaries(highs: _Highs, cost: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Adds variables and returns their indices; one that is not allowed stays 0."""
    count, first = len(cost), highs.getNumCol()
    highs.addCols(count, cost, np.zeros(count), allowed.astype(np.float64), 0, [], [], [])
    found = np.arange(first, first + count)
    highs.changeColsIntegrality(count, found, np.full(count, int(HighsVarType.kInteger), np.uint8))
    return found


def _nothing_fits(least: float, active_params_b: float | None, hosted_params_b: float | None) -> InvalidPrompt:
    # No cell of any expert that may be hosted: least is infinite.
    if hosted_params_b is not None and (active_params_b is None or least <= active_params_b or np.isinf(least)):
        return InvalidPrompt(
            f"No experts of {hosted_params_b:g} B in all can answer every category within the budget",
            hosted_params_b=hosted_params_b,
        )
    return InvalidPrompt(
        f"No expert fits the budget: the cheapest choice uses {least:.1f} B active parameters on average",
        least_active_params_b=round(least, 3),
    )
