"""Category to expert as a mixed-integer programme (after arXiv 2412.01868), solved by HiGHS. Pure.

    maximise    sum_c w_c sum_e (q_ce - lambda * a_e) x_ce
    subject to  sum_e x_ce = 1                     each cell has one expert
                x_ce <= z_e                        only hosted experts answer
                sum_c w_c sum_e a_e x_ce <= A      average active parameters
                sum_e p_e z_e <= P                 total parameters hosted
                x, z binary

with traffic share w, expected quality q, active parameters a and total parameters p, in billions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, identity, kron

from coe.mapper.quiet import native_stdout_silenced
from coe.platform.errors import InvalidPrompt

# Qualities closer than this are equal: the smaller expert takes the cell.
TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """What a solution may use. None: unlimited. `penalty` is lambda, quality per billion active parameters."""

    active_params_b: float | None = None
    hosted_params_b: float | None = None
    penalty: float = 0.0


@dataclass(frozen=True, eq=False)
class Solution:
    """`chosen` [cells] are expert indices; the figures are expectations over the traffic shares."""

    chosen: NDArray[np.int64]
    quality: float
    active_params_b: float
    hosted_params_b: float


def solve(
    quality: NDArray[np.float64],
    share: NDArray[np.float64],
    active: NDArray[np.float64],
    total: NDArray[np.float64],
    limits: Limits,
    eligible: NDArray[np.bool_] | None = None,
) -> Solution:
    """Quality is [cells, experts]. Raises InvalidPrompt when no choice of experts fits the limits."""
    cells, experts = quality.shape
    allowed = np.ones((cells, experts), bool) if eligible is None else eligible
    value = share[:, None] * (quality - limits.penalty * active[None, :])
    if limits.active_params_b is None and limits.hosted_params_b is None:
        chosen = np.where(allowed, quality - limits.penalty * active[None, :], -np.inf).argmax(1)
    else:
        chosen = _by_milp(value, share, active, total, limits, allowed)
    chosen = _smallest_of_equals(chosen, quality, active, allowed)
    rows = np.arange(cells)
    hosted = np.unique(chosen)
    return Solution(
        chosen,
        float(share @ quality[rows, chosen]),
        float(share @ active[chosen]),
        float(total[hosted].sum()),
    )


def _by_milp(
    value: NDArray[np.float64],
    share: NDArray[np.float64],
    active: NDArray[np.float64],
    total: NDArray[np.float64],
    limits: Limits,
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    cells, experts = value.shape
    pairs = cells * experts
    # The variables z are there only when hosting is limited: a multiple-choice knapsack is solved much faster.
    spare = experts if limits.hosted_params_b is not None else 0
    one_each = kron(identity(cells), np.ones((1, experts)))
    constraints = [LinearConstraint(_padded(one_each, spare), 1, 1)]
    if limits.active_params_b is not None:
        row = np.concatenate([(share[:, None] * active[None, :]).ravel(), np.zeros(spare)])
        constraints.append(LinearConstraint(row, -np.inf, limits.active_params_b))
    if limits.hosted_params_b is not None:
        hosted = hstack([identity(pairs), -kron(np.ones((cells, 1)), identity(experts))])
        constraints.append(LinearConstraint(hosted, -np.inf, 0))
        constraints.append(LinearConstraint(np.concatenate([np.zeros(pairs), total]), -np.inf, limits.hosted_params_b))
    with native_stdout_silenced():
        result = milp(
            np.concatenate([-value.ravel(), np.zeros(spare)]),
            integrality=np.ones(pairs + spare),
            bounds=Bounds(np.zeros(pairs + spare), np.concatenate([allowed.ravel().astype(float), np.ones(spare)])),
            constraints=constraints,
            # HiGHS stops within 0.01 % by default: then a larger budget could look worse than a smaller one.
            # Presolve costs more than it saves on programmes this small.
            options={"mip_rel_gap": 0.0, "presolve": False},
        )
    if result.x is None:
        least = float(share @ np.where(allowed, active[None, :], np.inf).min(1))
        raise InvalidPrompt(
            f"No expert fits the budget: the cheapest choice uses {least:.1f} B active parameters on average",
            least_active_params_b=round(least, 3),
        )
    chosen: NDArray[np.int64] = result.x[:pairs].reshape(cells, experts).argmax(1)
    return chosen


def _padded(matrix: csr_array, columns: int) -> csr_array:
    return hstack([matrix, csr_array((matrix.shape[0], columns))]) if columns else matrix


def _smallest_of_equals(
    chosen: NDArray[np.int64], quality: NDArray[np.float64], active: NDArray[np.float64], allowed: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Among hosted experts as good as the chosen one, the one with fewest active parameters."""
    hosted = np.zeros(len(active), bool)
    hosted[chosen] = True
    best = quality[np.arange(len(chosen)), chosen]
    equal = allowed & hosted[None, :] & (quality >= best[:, None] - TIE)
    smallest: NDArray[np.int64] = np.where(equal, active[None, :], np.inf).argmin(1)
    return smallest
