"""The programme of `coe.mapper.solve`, as HiGHS takes it. Apart, for it alone needs scipy: a mapper serves without."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, identity, kron

from coe.mapper.quiet import native_stdout_silenced
from coe.mapper.solve import Limits
from coe.platform.errors import InvalidPrompt


def chosen_experts(
    value: NDArray[np.float64],
    share: NDArray[np.float64],
    active: NDArray[np.float64],
    total: NDArray[np.float64],
    limits: Limits,
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Of each cell, the index of its expert. `value` is [cells, experts]. Raises InvalidPrompt when nothing fits."""
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
        if limits.hosted_params_b is not None and (limits.active_params_b is None or least <= limits.active_params_b):
            raise InvalidPrompt(
                f"No experts of {limits.hosted_params_b:g} B in all can answer every category within the budget",
                hosted_params_b=limits.hosted_params_b,
            )
        raise InvalidPrompt(
            f"No expert fits the budget: the cheapest choice uses {least:.1f} B active parameters on average",
            least_active_params_b=round(least, 3),
        )
    chosen: NDArray[np.int64] = result.x[:pairs].reshape(cells, experts).argmax(1)
    return chosen


def _padded(matrix: csr_array, columns: int) -> csr_array:
    return hstack([matrix, csr_array((matrix.shape[0], columns))]) if columns else matrix
