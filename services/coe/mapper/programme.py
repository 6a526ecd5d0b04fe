"""Passes the mixed-integer program of `coe.mapper.solve` to HiGHS. Pure."""

import numpy as np
from highspy import HighsModelStatus, HighsVarType

# The base class of `highspy.Highs`, which adds callbacks and prints a banner to standard output.
from highspy._core import _Highs
from numpy.typing import NDArray

from coe.platform.errors import InvalidPrompt

OPTIONS: dict[str, bool | float | str] = {
    "output_flag": False,
    # Solve on the caller's thread, with the same answer on every machine.
    "threads": 1,
    # By default HiGHS stops within 0.01 % or 1e-6 of the optimum: a larger budget could then look worse than a smaller.
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
}
# HiGHS treats objectives that differ by less than 1e-6 as equal, whatever the gap. Scaling keeps rare cells above that.
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
    """The index of each cell's expert. `value` is [cells, experts]. Raises InvalidPrompt when nothing fits."""
    highs = _Highs()
    for name, setting in OPTIONS.items():
        highs.setOptionValue(name, setting)
    cells, experts = value.shape
    x = _binaries(highs, -SCALE * value.ravel(), allowed.ravel())
    one = np.ones(cells)
    highs.addRows(cells, one, one, len(x), x[::experts], x, np.ones(len(x)))
    if active_params_b is not None:
        highs.addRow(-np.inf, active_params_b, len(x), x, (share[:, None] * active).ravel())
    # Without a hosting limit, z is left out: the multiple-choice knapsack that remains is solved much faster.
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
    """Adds binary variables and returns their indices; those not allowed are fixed at 0."""
    count, first = len(cost), highs.getNumCol()
    highs.addCols(count, cost, np.zeros(count), allowed.astype(np.float64), 0, [], [], [])
    found = np.arange(first, first + count)
    highs.changeColsIntegrality(count, found, np.full(count, int(HighsVarType.kInteger), np.uint8))
    return found


def _nothing_fits(least: float, active_params_b: float | None, hosted_params_b: float | None) -> InvalidPrompt:
    # `least` is infinite when a cell has no allowed expert.
    if hosted_params_b is not None and (active_params_b is None or least <= active_params_b or np.isinf(least)):
        return InvalidPrompt(
            f"No experts of {hosted_params_b:g} B in all can answer every category within the budget",
            hosted_params_b=hosted_params_b,
        )
    return InvalidPrompt(
        f"No expert fits the budget: the cheapest choice uses {least:.1f} B active parameters on average",
        least_active_params_b=round(least, 3),
    )
