"""From files to an evaluation: reading, splitting, embedding (cached), with progress."""

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
from coe.mapper.split import hold_out, without
from coe.platform.errors import ArtifactError

# For the categories of prompts, and for the nearest-neighbour router.
ENCODER = EncoderSpec(max_tokens=256, threads=2)
# Of `evaluate`, as its progress counts them.
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
    """Either one file, split by seed, or two. Also gives the models left out for want of parameter counts.

    Prompts of the training file that are in the test file are dropped. Raises ArtifactError.
    """
    if outcomes is not None and train is None and test is None:
        whole, pool, unknown = _of_pool(read_outcomes(outcomes), experts)
        rows = hold_out(whole, seed)
        fitted, judged, name = whole.rows(rows[0]), whole.rows(rows[1]), outcomes.stem
    elif outcomes is None and train is not None and test is not None:
        fitted, pool, unknown = _of_pool(read_outcomes(train), experts)
        judged = read_outcomes(test).of_models([expert.name for expert in pool])
        fitted, name = without(fitted, judged), test.stem
    else:
        raise ArtifactError("give either --outcomes, or both --train and --test")
    if not len(fitted) or not len(judged):
        raise ArtifactError("there are no prompts to fit on, or none to judge on")
    task = progress.add_task("Embedding prompts", total=None)
    cache = EmbeddingCache(open_encoder(ENCODER))
    embeddings = cache.encode(
        [*fitted.prompts, *judged.prompts], lambda done, total: progress.update(task, completed=done, total=total)
    )
    progress.update(task, description="Evaluating", completed=0, total=STEPS)

    def step(what: str) -> None:
        progress.update(task, description=f"Evaluating: {what}", advance=1)

    # Linear algebra on more threads than free cores spins instead of working.
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
    """Each dataset, or each category, is left out in turn. Raises ArtifactError."""
    outcomes, pool, unknown = _of_pool(read_outcomes(path), experts)
    sources = outcomes.datasets if by == "dataset" else outcomes.categories
    if len(set(sources)) < 2:
        raise ArtifactError(f"all prompts of {path.name} have the same {by}: nothing can be left out")
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


def _of_pool(outcomes: Outcomes, experts: Path | None) -> tuple[Outcomes, list[PoolExpert], list[str]]:
    pool, unknown = select(outcomes.models, read_pool(experts or PACKAGED))
    return outcomes.of_models([expert.name for expert in pool]), pool, unknown
