"""How likely each expert is to succeed on a prompt: an item response model with covariates. Needs scipy. Pure.

    logit of the score of expert e on prompt x in cell c  =  b[c, e] + x · (w + W[e] + s (v[c] + V[c, e]))

All experts share the difficulty `x · w` (Rasch's model, the prompt's difficulty being predicted from its text); what is
particular to an expert, `W`, is penalised more, and what is particular to a cell is scaled by s. The link matters:
where all succeed or all fail, no expert is worth its parameters, and the logistic curve says so by itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from coe.mapper.refiner import expected_scores

Floats = NDArray[np.float64]
# Qualities are kept this far from 0 and 1 before their logit is taken.
EDGE = 0.02


@dataclass(frozen=True, slots=True)
class Penalties:
    """Halves of these times squared length are added to the log loss of all outcomes."""

    shared: float = 10.0
    expert: float = 100.0
    level: float = 1.0
    # s: how much a cell's own weights may differ from those of all cells.
    cell_scale: float = 1.0
    iterations: int = 60


@dataclass(frozen=True, eq=False)
class Response:
    """`bias` [C, M] and `weight` [C, P, M], for inputs as they are."""

    bias: Floats
    weight: Floats

    def quality(self, inputs: NDArray[np.float32], cells: NDArray[np.int64]) -> Floats:
        """Expected scores [n, M]."""
        return expected_scores(inputs, cells, self.bias, self.weight)


def fit_response(
    inputs: NDArray[np.float32], cells: NDArray[np.int64], scores: Floats, quality: Floats, penalties: Penalties
) -> Response:
    """Inputs [n, P], the cell of each, scores [n, M] with NaN where an expert was not run, `quality` [C, M] as a start.

    Inputs are centred within cells, so that the biases stay what the cells' means say.
    """
    count, experts = quality.shape
    width = inputs.shape[1]
    of_cell = [np.flatnonzero(cells == cell) for cell in range(count)]
    centre = np.array([inputs[rows].mean(0) if len(rows) else np.zeros(width) for rows in of_cell])
    blocks = [inputs[rows].astype(np.float64) - centre[cell] for cell, rows in enumerate(of_cell)]
    targets = [np.nan_to_num(scores[rows]) for rows in of_cell]
    ran = [~np.isnan(scores[rows]) for rows in of_cell]
    start = np.log(np.clip(quality, EDGE, 1 - EDGE) / (1 - np.clip(quality, EDGE, 1 - EDGE)))
    shape = _Shape(count, width, experts, penalties)

    def loss(flat: Floats) -> tuple[float, Floats]:
        bias, weight = shape.effective(flat)
        total = 0.5 * float(flat @ flat)
        by_bias, by_weight = np.zeros_like(bias), np.zeros_like(weight)
        for cell, block in enumerate(blocks):
            logit = block @ weight[cell] + start[cell] + bias[cell]
            total += float((np.logaddexp(0.0, logit) - targets[cell] * logit)[ran[cell]].sum())
            error = np.where(ran[cell], _logistic(logit) - targets[cell], 0.0)
            by_bias[cell] = error.sum(0)
            by_weight[cell] = block.T @ error
        return total, flat + shape.gradient(by_bias, by_weight)

    # On more threads than free cores linear algebra spins instead of working.
    with threadpool_limits(1):
        found = minimize(
            loss, np.zeros(shape.size), jac=True, method="L-BFGS-B", options={"maxiter": penalties.iterations}
        )
    bias, weight = shape.effective(found.x)
    return Response(start + bias - np.einsum("cp,cpm->cm", centre, weight), weight)


class _Shape:
    """The free parameters as one vector, each scaled so that its penalty is half its square."""

    def __init__(self, cells: int, width: int, experts: int, penalties: Penalties) -> None:
        self._bias = (cells, experts)
        # The shared difficulty stands beside the experts, the common part beside the cells.
        self._weight = (cells + 1, width, experts + 1)
        self._level = penalties.level**-0.5
        self._scale = np.full(experts + 1, penalties.expert**-0.5)
        self._scale[-1] = penalties.shared**-0.5
        self._cell = penalties.cell_scale
        self._split = cells * experts
        self.size = self._split + int(np.prod(self._weight))

    def effective(self, flat: Floats) -> tuple[Floats, Floats]:
        """Biases [C, M] and weights [C, P, M] as they act."""
        bias = self._level * flat[: self._split].reshape(self._bias)
        free = flat[self._split :].reshape(self._weight) * self._scale
        by_expert = free[:, :, :-1] + free[:, :, -1:]
        return bias, self._cell * by_expert[:-1] + by_expert[-1]

    def gradient(self, bias: Floats, weight: Floats) -> Floats:
        """Derivatives by the vector, from those by the effective parameters."""
        by_cell = np.concatenate([self._cell * weight, weight.sum(0, keepdims=True)])
        free = np.concatenate([by_cell, by_cell.sum(2, keepdims=True)], axis=2) * self._scale
        return np.concatenate([self._level * bias.ravel(), free.ravel()])


def _logistic(logit: Floats) -> Floats:
    half: Floats = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return half
