"""Which map a budget uses."""

import numpy as np

from coe.evaluation.composition import _validated


def test_maps_are_compared_where_the_experts_of_both_were_run() -> None:
    """The refined map's expert was run on the easy half alone, and is no better there."""
    easy, hard = np.full(50, 1.0), np.full(50, 0.0)
    plain, refined = np.concatenate([easy, hard]), np.concatenate([easy, np.full(50, np.nan)])
    validated = _validated(np.stack([plain, refined], axis=1), [0.0])
    assert validated.gain == 0
    assert validated.level(limited=False) == "plain"
    nothing = _validated(np.full((3, 2), np.nan), [0.0])
    assert (nothing.gain, nothing.level(limited=True)) == (0, "plain")
