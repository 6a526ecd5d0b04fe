"""The per-prompt nearest-neighbour router: expected scores are means over the most similar prompts. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
# Prompts compared at once.
STEP = 1024


def neighbour_quality(
    known: Embeddings,
    scores: Floats,
    prior: Floats,
    asked: Embeddings,
    *,
    k: int,
    weight: float,
    skip_self: bool = False,
) -> Floats:
    """Quality [asked, experts]: the mean over the `k` nearest of `known`, shrunk by `weight` outcomes of the prior.

    Embeddings are unit vectors; `prior` is [asked, experts], NaN where an expert must not be chosen. `skip_self`: asked
    and known are the same prompts, and none is its own neighbour.
    """
    ran = ~np.isnan(scores)
    filled = np.where(ran, scores, 0.0)
    result = np.empty_like(prior)
    for start in range(0, len(asked), STEP):
        rows = slice(start, start + STEP)
        similarity = asked[rows] @ known.T
        if skip_self:
            here = np.arange(similarity.shape[0])
            similarity[here, here + start] = -np.inf
        nearest = np.argpartition(-similarity, min(k, similarity.shape[1] - 1), axis=1)[:, :k]
        total = filled[nearest].sum(1) + weight * np.nan_to_num(prior[rows])
        result[rows] = total / (ran[nearest].sum(1) + weight)
    result[np.isnan(prior)] = np.nan
    return result
