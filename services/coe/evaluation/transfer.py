"""Tests whether routing transfers: each source is routed by a composition fitted on all the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.composition import Asked, fit_levels
from coe.evaluation.metrics import Interval, bootstrap, column_means, paired_bootstrap
from coe.evaluation.planning import assign
from coe.mapper.outcomes import Outcomes
from coe.mapper.refiner_fit import RefinerSettings
from coe.mapper.solve import Limits, solve
from coe.mapper.split import groups
from coe.mapper.text_features import text_features

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """Mean scores on a left-out source, each over the prompts where the chosen expert was run.

    `single` is the best expert on the other sources.
    """

    source: str
    prompts: int
    single: str
    single_score: float
    plain: float
    refined: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """`best_single` is the best expert over all prompts, in hindsight; gains are over it, on the same prompts."""

    rows: tuple[SourceRow, ...]
    best_single: str
    single: Interval
    plain: Interval
    refined: Interval
    plain_gain: Interval
    refined_gain: Interval


def judge_transfer(
    outcomes: Outcomes,
    embeddings: Embeddings,
    active: Floats,
    sources: Sequence[str],
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> Transfer:
    """Leaves out each source; `sources` names that of each prompt.

    There is no budget: the question is whether the right expert is found.
    """
    asked = Asked(text_features(outcomes.prompts), embeddings)
    source_of, group = np.array(sources), groups(outcomes)
    chosen = {level: np.full(len(outcomes), np.nan) for level in ("plain", "refined")}
    rows = []
    for source in sorted(set(sources)):
        progress(source)
        fold = np.flatnonzero(source_of == source)
        rest = np.flatnonzero((source_of != source) & ~np.isin(group, group[fold]))
        levels = fit_levels(outcomes.rows(rest), asked.rows(rest), RefinerSettings(seed=seed))
        for level, names in levels.cells(asked.rows(fold)).items():
            table = levels.table(level)
            solution = solve(table.quality, table.share, active, active, Limits(), table.eligible)
            chosen[level][fold] = outcomes.scores[fold, assign(table, solution, names)]
        known = int(np.nanargmax(column_means(outcomes.scores[rest])))
        judged = [outcomes.scores[fold, known], chosen["plain"][fold], chosen["refined"][fold]]
        alone, *means = column_means(np.column_stack(judged)).tolist()
        rows.append(SourceRow(source, len(fold), outcomes.models[known], alone, *means))
    best = int(np.nanargmax(column_means(outcomes.scores)))
    single = outcomes.scores[:, best]
    return Transfer(
        tuple(rows),
        outcomes.models[best],
        bootstrap(single, seed=seed),
        bootstrap(chosen["plain"], seed=seed),
        bootstrap(chosen["refined"], seed=seed),
        paired_bootstrap(chosen["plain"], single, seed=seed),
        paired_bootstrap(chosen["refined"], single, seed=seed),
    )
