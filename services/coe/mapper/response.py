"""Predicts each expert's score on a prompt by an item response model with covariates. Needs SciPy. Pure.

    logit of the score of expert e on prompt x in cell c  =  b[c, e] + x · (w + W[e] + s (v[c] + V[c, e]))

All experts share the difficulty `x · w` (a Rasch model whose difficulty is predicted from the prompt's text). Weights
of a single expert, `W`, are penalised more, and weights of a single cell are scaled by s. The logistic link matters: on
prompts where all experts succeed or all fail, no expert is worth more parameters, and the flat ends of the curve
express that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from coe.mapper.refiner import expected_scores

Floats = NDArray[np.float64]
# Qualities are clipped this far from 0 and 1 before taking their logit.
EDGE = 0.02


@dataclass(frozen=True, slots=True)
class Penalties:
    """L2 penalties: half of each, times the squared norm of its parameters, is added to the summed log loss.

    `iterations` limits those of the optimiser.
    """

    shared: float = 10.0
    expert: float = 100.0
    level: float = 1.0
    # s: how far a cell's weights may deviate from the common ones.
    cell_scale: float = 1.0
    iterations: int = 60


@dataclass(frozen=True, eq=False)
class Response:
    """A fitted model: `bias` [C, M] and `weight` [C, P, M], for inputs that are not centred."""

    bias: Floats
    weight: Floats

    def quality(self, inputs: NDArray[np.float32], cells: NDArray[np.int64]) -> Floats:
        """Expected scores [n, M]."""
        return expected_scores(inputs, cells, self.bias, self.weight)


def fit_response(
    inputs: NDArray[np.float32], cells: NDArray[np.int64], scores: Floats, quality: Floats, penalties: Penalties
) -> Response:
    """Fits inputs [n, P] in `cells` [n] to scores [n, M], NaN where not run, starting at `quality` [C, M].

    Inputs are centred within cells, so that the biases keep to the cells' mean qualities.
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

    # With more threads than free cores, BLAS spins instead of working.
    with threadpool_limits(1):
        found = minimize(
            loss, np.zeros(shape.size), jac=True, method="L-BFGS-B", options={"maxiter": penalties.iterations}
        )
    bias, weight = shape.effective(found.x)
    return Response(start + bias - np.einsum("cp,cpm->cm", centre, weight), weight)


class _Shape:
    """Packs the free parameters into one vector, each scaled so that its penalty is half its square."""

    def __init__(self, cells: int, width: int, experts: int, penalties: Penalties) -> None:
        self._bias = (cells, experts)
        # The last index along the experts is the shared difficulty; the last along the cells is the common part.
        self._weight = (cells + 1, width, experts + 1)
        self._level = penalties.level**-0.5
        self._scale = np.full(experts + 1, penalties.expert**-0.5)
        self._scale[-1] = penalties.shared**-0.5
        self._cell = penalties.cell_scale
        self._split = cells * experts
        self.size = self._split + int(np.prod(self._weight))

    def effective(self, flat: Floats) -> tuple[Floats, Floats]:
        """The effective biases [C, M] and weights [C, P, M]."""
        bias = self._level * flat[: self._split].reshape(self._bias)
        free = flat[self._split :].reshape(self._weight) * self._scale
        by_expert = free[:, :, :-1] + free[:, :, -1:]
        return bias, self._cell * by_expert[:-1] + by_expert[-1]

    def gradient(self, bias: Floats, weight: Floats) -> Floats:
        """The gradient with respect to the vector, given those with respect to the effective parameters."""
        by_cell = np.concatenate([self._cell * weight, weight.sum(0, keepdims=True)])
        free = np.concatenate([by_cell, by_cell.sum(2, keepdims=True)], axis=2) * self._scale
        return np.concatenate([self._level * bias.ravel(), free.ravel()])


def _logistic(logit: Floats) -> Floats:
    half: Floats = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return half
