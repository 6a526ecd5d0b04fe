"""Runs an evaluation from files: reads, splits, embeds (with a cache) and reports progress."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from coe.encoder import EmbeddingCache, EncoderSpec, open_encoder
from coe.evaluation.composition import FOLDS
from coe.evaluation.evaluate import Evaluation, Part, evaluate
from coe.evaluation.transfer import Transfer, judge_transfer
from coe.mapper.outcomes import Outcomes, read_outcomes
from coe.mapper.pool import PACKAGED, PoolExpert, read_pool, select
from coe.mapper.split import groups, hold_out, without
from coe.platform.errors import ArtifactError

# The encoder for predicting categories and for the nearest-neighbour router.
ENCODER = EncoderSpec(max_tokens=256, threads=2)
# Fewest different prompts to fit on: with fewer, nested folds would be empty.
LEAST = 20
# Steps of `evaluate` that are reported as progress.
STEPS = 6 + FOLDS


def evaluate_files(
    outcomes: Path | None,
    train: Path | None,
    test: Path | None,
    *,
    experts: Path | None,
    seed: int,
    progress: Progress,
) -> tuple[Evaluation, list[str]]:
    """Evaluates on one file, split by seed, or on two. Raises ArtifactError.

    Training prompts that are also in the test file are dropped, as are prompts that no expert of the pool was run on.
    Also returns the models left out because their sizes are unknown.
    """
    if outcomes is not None and train is None and test is None:
        whole = read_outcomes(outcomes)
        pool, unknown = select(whole.models, read_pool(experts or PACKAGED))
        whole = whole.of_models([expert.name for expert in pool]).scored()
        fitted, judged = (whole.rows(rows) for rows in hold_out(whole, seed))
        name = outcomes.stem
    elif outcomes is None and train is not None and test is not None:
        fitted, judged, name = read_outcomes(train), read_outcomes(test), test.stem
        pool, unknown = select(sorted({*fitted.models, *judged.models}), read_pool(experts or PACKAGED))
        fitted = without(fitted, judged)
    else:
        raise ArtifactError("give either --outcomes, or both --train and --test")
    _check_enough(fitted, judged)
    fitted, judged, pool = _of_both(fitted, judged, pool, progress)
    _check_enough(fitted, judged)
    task = progress.add_task("Embedding prompts", total=None)
    cache = EmbeddingCache(open_encoder(ENCODER))
    embeddings = cache.encode(
        [*fitted.prompts, *judged.prompts], lambda done, total: progress.update(task, completed=done, total=total)
    )
    progress.update(task, description="Evaluating", completed=0, total=STEPS)

    def step(what: str) -> None:
        progress.update(task, description=f"Evaluating: {what}", advance=1)

    # With more threads than free cores, BLAS spins instead of working.
    with threadpool_limits(1):
        result = evaluate(
            name,
            Part(fitted, embeddings[: len(fitted)]),
            Part(judged, embeddings[len(fitted) :]),
            pool,
            seed=seed,
            progress=step,
        )
    return result, unknown


def transfer_file(
    path: Path, *, by: Literal["dataset", "category"], experts: Path | None, seed: int, progress: Progress
) -> tuple[Transfer, list[str]]:
    """Evaluates each dataset, or each category, with a composition fitted on the others. Raises ArtifactError.

    Also returns the models left out because their sizes are unknown.
    """
    outcomes = read_outcomes(path)
    pool, unknown = select(outcomes.models, read_pool(experts or PACKAGED))
    outcomes = outcomes.of_models([expert.name for expert in pool]).scored()
    sources = outcomes.datasets if by == "dataset" else outcomes.categories
    if len(set(sources)) < 2:
        raise ArtifactError(f"all prompts of {path.name} have the same {by}: nothing can be held out")
    source_of = np.array(sources)
    for source in sorted(set(sources)):
        _check_enough(*(outcomes.rows(np.flatnonzero(part)) for part in (source_of != source, source_of == source)))
    task = progress.add_task("Embedding prompts", total=None)
    embeddings = EmbeddingCache(open_encoder(ENCODER)).encode(
        outcomes.prompts, lambda done, total: progress.update(task, completed=done, total=total)
    )
    progress.update(task, completed=0, total=len(set(sources)))

    def step(source: str) -> None:
        progress.update(task, description=f"Without {source}", advance=1)

    active = np.array([expert.active_params_b for expert in pool])
    with threadpool_limits(1):
        return judge_transfer(outcomes, embeddings, active, sources, seed=seed, progress=step), unknown


def _check_enough(fitted: Outcomes, judged: Outcomes) -> None:
    distinct = len(set(groups(fitted).tolist()))
    if distinct < LEAST or not len(judged):
        raise ArtifactError(
            f"{distinct} different prompts to fit on and {len(judged)} others to judge on are too few: "
            f"at least {LEAST} and 1 are needed"
        )


def _of_both(
    fitted: Outcomes, judged: Outcomes, pool: Sequence[PoolExpert], progress: Progress
) -> tuple[Outcomes, Outcomes, list[PoolExpert]]:
    """Both parts and the pool, restricted to experts with outcomes in both: others can't be fitted or scored."""
    names = [expert.name for expert in pool]
    parts = [part.of_models(names) for part in (fitted, judged)]
    in_both = np.all([~np.isnan(part.scores).all(axis=0) for part in parts], axis=0)
    kept = [expert for expert, both in zip(pool, in_both, strict=True) if both]
    missing = [name for name, both in zip(names, in_both, strict=True) if not both]
    if not kept:
        raise ArtifactError(f"no model has outcomes both to fit on and to score on: {', '.join(missing)}")
    if missing:
        line = f"Left out, outcomes only to fit on or only to judge on: {', '.join(missing)}"
        progress.console.print(line, markup=False)
    names = [expert.name for expert in kept]
    return parts[0].of_models(names).scored(), parts[1].of_models(names).scored(), kept
