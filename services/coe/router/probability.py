"""Row-wise softmax and related functions in plain NumPy: serving needs no SciPy, which is a third of an image."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def expit(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def logsumexp(x: Floats) -> Floats:
    """log(sum(exp(row))) of each row of x [n, C], as [n]."""
    highest = x.max(axis=1, keepdims=True)
    return np.asarray(highest[:, 0] + np.log(np.exp(x - highest).sum(axis=1)))


def log_softmax(x: Floats) -> Floats:
    return np.asarray(x - logsumexp(x)[:, None])


def softmax(x: Floats) -> Floats:
    return np.asarray(np.exp(log_softmax(x)))
