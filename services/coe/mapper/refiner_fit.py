"""Fits a refiner and the table of its parts to outcomes. Needs scikit-learn (the extra `train`). Pure.

All predictions behind the table are for prompts that the models have not seen (cross-fitting): otherwise the parts
would look purer than they are.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coe.mapper.cells import CellHeads, cell_names, fit_cells
from coe.mapper.inputs import fit_scaling
from coe.mapper.refiner import Refiner, contrasts
from coe.mapper.response import Penalties, Response, fit_response
from coe.mapper.table import QualityTable, build_table, counts, eligible_pairs

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class RefinerSettings:
    """`parts` limits the parts of a cell; each has `min_size` prompts on average, or more.

    The values were chosen by cross-validation, see docs/evaluation.md.
    """

    parts: int = 8
    min_size: int = 30
    # Fewest prompts of a part named in the outcomes for it to be a cell.
    min_cell: int = 100
    penalties: Penalties = field(default_factory=Penalties)
    # Weight of a part's predicted quality, in outcomes.
    part_support: float = 400.0
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Refined:
    """`part_of` gives the cross-fitted part of each training prompt; `table` has a row for each part."""

    refiner: Refiner
    part_of: tuple[str, ...]
    table: QualityTable


def fit_refiner(
    categories: Sequence[str],
    scores: Floats,
    counts_of: Embeddings,
    folds: Folds,
    settings: RefinerSettings,
    embeddings: Embeddings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Refined:
    """Fits a refiner to scores [n, M], NaN where an expert was not run.

    `folds` are row numbers (rest, fold) that cover each prompt once. `counts_of` [n, F] are the prompts' text features
    (`coe.mapper.text_features`).

    With `embeddings` [n, D], a prompt's cell is predicted from them and the inputs together, because the router has
    both. Without them, it is predicted from the inputs alone, among the cells of its category, as the mapper does.
    """
    names = cell_names(categories, settings.min_cell)
    table = build_table(names, scores)
    row_of = {name: row for row, name in enumerate(table.cells)}
    truth = np.array([row_of[name] for name in names])
    scaling = fit_scaling(counts_of, settings.seed)
    inputs = scaling.inputs(counts_of)
    asked = inputs if embeddings is None else np.hstack([embeddings, inputs])

    predicted = np.zeros_like(scores)
    cells = np.zeros(len(names), np.int64)
    for done, (rest, fold) in enumerate(folds):
        progress(done, len(folds) + 1)
        heads = fit_cells(asked[rest], [names[row] for row in rest])
        known = None if embeddings is not None else [names[row] for row in fold]
        cells[fold] = [row_of[name] for name in _cells_of(heads, asked[fold], known)]
        response = _respond(inputs[rest], truth[rest], scores[rest], table, settings)
        predicted[fold] = _levelled(response.quality(inputs[fold], cells[fold]), cells[fold], table.quality)
    progress(len(folds), len(folds) + 1)
    told = _told(scores, predicted, cells, table.quality)
    centroids, part = _cluster(contrasts(predicted), cells, told, settings)
    parts = _names(table.cells, centroids)
    response = _respond(inputs, truth, scores, table, settings)
    refiner = Refiner(
        heads=fit_cells(asked, names),
        parts=parts,
        scaling=scaling,
        bias=response.bias.astype(np.float32),
        weight=response.weight.astype(np.float32),
        centroids=tuple(centre.astype(np.float32) for centre in centroids),
    )
    part_of = tuple(parts[cell][index] for cell, index in zip(cells, part, strict=True))
    return Refined(refiner, part_of, _part_table(part_of, scores, predicted, refiner, table, settings))


def _cells_of(heads: CellHeads, asked: Embeddings, known: Sequence[str] | None) -> list[str]:
    """The predicted cell of each prompt; with the true cells `known`, among the cells of its true category."""
    if known is None:
        return [heads.names[cell] for cell in heads.predict(asked)]
    category = np.array([name.split("/")[0] for name in known])
    found = list(known)
    for name in np.unique(category):
        # Empty when the heads were fitted without the category: the true cells are kept.
        if inside := heads.inside(name):
            rows = np.flatnonzero(category == name)
            for row, cell in zip(rows.tolist(), heads.predict(asked[rows], inside), strict=True):
                found[row] = heads.names[cell]
    return found


def _respond(
    inputs: Embeddings, cells: NDArray[np.int64], scores: Floats, table: QualityTable, settings: RefinerSettings
) -> Response:
    return fit_response(inputs, cells, scores, table.quality, settings.penalties)


def _levelled(predicted: Floats, cells: NDArray[np.int64], level: Floats) -> Floats:
    """Shifts the predictions so that each cell's mean is its `level` [C, M].

    Each fold has its own model, and their levels differ slightly: without the shift, the differences could pass for
    parts.
    """
    result = predicted.copy()
    for cell in np.unique(cells):
        inside = cells == cell
        result[inside] += level[cell] - predicted[inside].mean(0)
    return np.clip(result, 0.0, 1.0)


def _told(scores: Floats, predicted: Floats, cells: NDArray[np.int64], level: Floats) -> list[bool]:
    """Whether to divide each cell: unless its predictions fit the outcomes worse than the cell's mean does.

    Worse means by more than one standard error, because even weak parts let a budget be allocated more finely.
    """
    better = np.nansum((scores - level[cells]) ** 2 - (scores - predicted) ** 2, axis=1)
    inside = [better[cells == cell] for cell in range(len(level))]
    return [bool(len(gains) and gains.sum() > -gains.std() * np.sqrt(len(gains))) for gains in inside]


def _cluster(
    wanted: Floats, cells: NDArray[np.int64], told: Sequence[bool], settings: RefinerSettings
) -> tuple[list[Floats], NDArray[np.int64]]:
    """The centroids of each cell and the part index of each prompt."""
    from sklearn.cluster import KMeans

    centroids: list[Floats] = []
    part = np.zeros(len(cells), np.int64)
    for cell, divided in enumerate(told):
        inside = cells == cell
        # There are no more clusters than distinct contrasts.
        distinct = len(np.unique(wanted[inside].round(6), axis=0))
        parts = max(1, min(settings.parts, int(inside.sum()) // settings.min_size, distinct)) if divided else 1
        if parts == 1:
            centroids.append(np.zeros((1, wanted.shape[1])))
            continue
        found = KMeans(parts, n_init=4, random_state=settings.seed).fit(wanted[inside])
        # Ordered by how much the experts differ, least first.
        order = np.argsort(np.ptp(found.cluster_centers_, axis=1))
        centroids.append(found.cluster_centers_[order])
        part[inside] = np.argsort(order)[found.labels_]
    return centroids, part


def _names(cells: Sequence[str], centroids: Sequence[Floats]) -> tuple[tuple[str, ...], ...]:
    """Names the parts of each cell: `math/grade-school/2`, or just `math/grade-school` if it is not divided.

    The parts of a cell that is a whole category are named `math/part/1`, or `math/all` if it is not divided.
    """
    names = []
    for cell, centres in zip(cells, centroids, strict=True):
        stem = cell if "/" in cell else f"{cell}/{'all' if len(centres) == 1 else 'part'}"
        names.append((stem,) if len(centres) == 1 else tuple(f"{stem}/{n}" for n in range(1, len(centres) + 1)))
    return tuple(names)


def _part_table(
    part_of: Sequence[str],
    scores: Floats,
    predicted: Floats,
    refiner: Refiner,
    cells: QualityTable,
    settings: RefinerSettings,
) -> QualityTable:
    """The quality of each part: its outcomes, shrunk towards the mean prediction for its prompts.

    A part that no prompt was assigned to has a share of 0 and the figures of its cell.
    """
    names = [name for parts in refiner.parts for name in parts]
    total, support = counts(part_of, scores, names)
    expected, size = counts(part_of, predicted, names)
    of_cell = np.repeat(np.arange(len(cells.cells)), [len(parts) for parts in refiner.parts])
    prior = np.where(size > 0, expected / np.maximum(size, 1), cells.quality[of_cell])
    quality = (total + settings.part_support * prior) / (support + settings.part_support)
    empty = size.max(1, keepdims=True) == 0
    support = np.where(empty, cells.support[of_cell], support)
    # An expert that is not eligible in a cell is not eligible in its parts either.
    eligible = cells.eligible[of_cell] & eligible_pairs(support, 1)
    eligible = np.where(eligible.any(1, keepdims=True), eligible, cells.eligible[of_cell])
    seen = Counter(part_of)
    share = np.array([seen[name] for name in names]) / len(part_of)
    return QualityTable(tuple(names), quality, support, share, eligible)
