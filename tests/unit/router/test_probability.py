"""Ours agree with scipy's, also where exp overflows."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from coe.router import probability

ROWS = np.concatenate(
    [np.random.default_rng(0).normal(scale=30, size=(50, 9)), np.full((1, 9), 900.0), np.full((1, 9), -900.0)]
).astype(np.float32)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_rows(name: str) -> None:
    ours: Callable[..., np.ndarray] = getattr(probability, name)
    assert ours(ROWS).dtype == np.float32
    np.testing.assert_allclose(ours(ROWS), getattr(special, name)(ROWS, axis=1), rtol=1e-5, atol=1e-5)


def test_expit() -> None:
    assert probability.expit(ROWS).dtype == np.float32
    np.testing.assert_allclose(probability.expit(ROWS), special.expit(ROWS), atol=1e-6)
