"""The nearest-neighbour baseline: expected scores are means over the most similar prompts. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
# Prompts compared at a time.
STEP = 1024


def neighbour_quality(
    known: Embeddings,
    scores: Floats,
    prior: Floats,
    asked: Embeddings,
    *,
    k: int,
    weight: float,
    group: NDArray[np.int64] | None = None,
) -> Floats:
    """Quality [asked, experts]: the mean over the `k` nearest of `known`, shrunk to the prior with `weight` outcomes.

    Embeddings are unit vectors. `prior` is [asked, experts], NaN where an expert must not be chosen; so is the result.
    If `group` is given, `asked` and `known` are the same prompts, and no prompt is a neighbour of its own group.
    """
    ran = ~np.isnan(scores)
    filled = np.where(ran, scores, 0.0)
    result = np.empty_like(prior)
    for start in range(0, len(asked), STEP):
        rows = slice(start, start + STEP)
        similarity = asked[rows] @ known.T
        if group is not None:
            similarity[group[rows, None] == group[None, :]] = -np.inf
        nearest = np.argpartition(-similarity, min(k, similarity.shape[1] - 1), axis=1)[:, :k]
        # There may be fewer than k prompts outside the group.
        near = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))[:, :, None]
        total = (filled[nearest] * near).sum(1) + weight * np.nan_to_num(prior[rows])
        result[rows] = total / ((ran[nearest] & near).sum(1) + weight)
    result[np.isnan(prior)] = np.nan
    return result
