"""Assigns experts to cells by a mixed-integer program (after arXiv 2412.01868), solved by HiGHS. Pure.

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

from coe.mapper import programme

# Qualities closer than this count as equal: the smaller expert gets the cell.
TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a solution; None: unlimited. `penalty` is lambda, in quality per billion active parameters."""

    active_params_b: float | None = None
    hosted_params_b: float | None = None
    penalty: float = 0.0


@dataclass(frozen=True, eq=False)
class Solution:
    """`chosen` [cells] holds expert indices. Quality and active parameters are means over the traffic shares."""

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
    """Solves the program for `quality` [cells, experts]. Raises InvalidPrompt when nothing fits the limits.

    The program does not constrain a cell with a share of 0: it gets the best expert that fits the budget by itself,
    else the smallest.
    """
    cells, experts = quality.shape
    allowed = np.ones((cells, experts), bool) if eligible is None else eligible
    value = share[:, None] * (quality - limits.penalty * active[None, :])
    if limits.active_params_b is None and limits.hosted_params_b is None:
        chosen = np.where(allowed, quality - limits.penalty * active[None, :], -np.inf).argmax(1)
    else:
        chosen = programme.chosen_experts(
            value, share, active, total, limits.active_params_b, limits.hosted_params_b, allowed
        )
    chosen = _smallest_of_equals(chosen, quality, active, allowed, limits)
    rare = share == 0
    if rare.any():
        chosen[rare] = _each_alone(chosen, quality[rare], active, limits, allowed[rare])
    rows = np.arange(cells)
    hosted = np.unique(chosen)
    return Solution(
        chosen,
        float(share @ quality[rows, chosen]),
        float(share @ active[chosen]),
        float(total[hosted].sum()),
    )


def _each_alone(
    chosen: NDArray[np.int64],
    quality: NDArray[np.float64],
    active: NDArray[np.float64],
    limits: Limits,
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The best expert of each row within the budget, else the smallest.

    If hosting is limited, only experts in `chosen` are considered.
    """
    if limits.hosted_params_b is not None:
        allowed = allowed & np.isin(np.arange(len(active)), chosen)
    worth = np.where(allowed, quality - limits.penalty * active, -np.inf)
    if limits.active_params_b is not None:
        within = allowed & (active <= limits.active_params_b)
        smallest = np.where(allowed, -active, -np.inf)
        worth = np.where(within.any(1, keepdims=True), np.where(within, worth, -np.inf), smallest)
    best: NDArray[np.int64] = worth.argmax(1)
    return best


def _smallest_of_equals(
    chosen: NDArray[np.int64],
    quality: NDArray[np.float64],
    active: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    limits: Limits,
) -> NDArray[np.int64]:
    """Replaces each choice by an equally good expert with the fewest active parameters, preferring hosted ones.

    If hosting is limited, only hosted experts are considered.
    """
    hosted = np.isin(np.arange(len(active)), chosen)
    best = quality[np.arange(len(chosen)), chosen]
    equal = allowed & (quality >= best[:, None] - TIE)
    if limits.hosted_params_b is not None:
        equal &= hosted
    size = np.where(equal, active, np.inf)
    smallest = size == size.min(1, keepdims=True)
    first: NDArray[np.int64] = np.where(smallest, 1 + hosted, 0).argmax(1)
    return first
