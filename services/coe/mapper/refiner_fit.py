"""Fits a refiner on outcomes, and the table of its parts. Needs scikit-learn (the extra `train`). Pure.

Everything that the table is made of is predicted for prompts that the heads have not seen (cross-fitting): otherwise
the parts would look purer in training than they are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.mapper.cells import cell_names, fit_cells
from coe.mapper.refiner import Refiner, design
from coe.mapper.table import QualityTable, build_table, counts, eligible_pairs

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RefinerSettings:
    """`parts` and `min_size` bound the parts of a cell; the others regularise. Chosen by cross-validation."""

    parts: int = 8
    min_size: int = 30
    # A category's own part needs so many prompts to be a cell.
    min_cell: int = 100
    ridge: float = 40.0
    # Outcomes that the prior slope 1 of a calibration is worth.
    slope_support: float = 30.0
    # Outcomes that the predicted quality of a part is worth.
    part_support: float = 400.0
    # 1: all experts share one difficulty; 0: each has its own prediction.
    common: float = 0.6
    # Calibrated deviations are multiplied by this: the best of several estimates is an overestimate.
    damping: float = 0.6
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Refined:
    """`part_of`: the parts of the training prompts, as predicted for unseen ones; `table` has a row for each part."""

    refiner: Refiner
    part_of: tuple[str, ...]
    table: QualityTable


def fit_refiner(
    categories: Sequence[str],
    scores: Floats,
    features: Embeddings,
    embeddings: Embeddings,
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    settings: RefinerSettings,
) -> Refined:
    """Scores [n, M] with NaN where an expert was not run, features [n, F], embeddings [n, D] of unit length.

    `folds` are (rest, fold) row numbers that cover each prompt once.
    """
    names = cell_names(categories, settings.min_cell)
    heads = fit_cells(embeddings, names, settings.seed)
    row_of = {name: row for row, name in enumerate(heads.names)}
    truth = np.array([row_of[name] for name in names])
    table = build_table(names, scores)
    residual = np.nan_to_num(scores - table.quality[truth])
    mean, deviation = features.mean(0), features.std(0) + 1e-3

    raw = np.zeros_like(residual)
    cells = np.zeros(len(names), np.int64)
    for rest, fold in folds:
        weight = _ridge(design(features[rest], embeddings[rest], mean, deviation), residual[rest], settings.ridge)
        raw[fold] = design(features[fold], embeddings[fold], mean, deviation) @ weight
        known = fit_cells(embeddings[rest], [names[row] for row in rest], settings.seed)
        cells[fold] = [row_of[known.names[cell]] for cell in known.predict(embeddings[fold])]

    offset = _means(raw, cells, len(row_of))
    calibration = np.stack([_calibration(cell, raw, cells, scores, settings) for cell in range(len(row_of))])
    deviations = np.einsum("nm,nmk->nk", raw - offset[cells], calibration[cells])
    centroids, part = _cluster(deviations, cells, table.quality, settings)
    parts = _names(heads.names, centroids)
    refiner = Refiner(
        cells=heads.names,
        parts=parts,
        cell_weight=heads.weight,
        cell_bias=heads.bias,
        feature_mean=mean,
        feature_deviation=deviation,
        weight=_ridge(design(features, embeddings, mean, deviation), residual, settings.ridge).astype(np.float32),
        offset=offset.astype(np.float32),
        calibration=calibration.astype(np.float32),
        centroids=tuple(centre.astype(np.float32) for centre in centroids),
    )
    part_of = tuple(parts[cell][index] for cell, index in zip(cells, part, strict=True))
    return Refined(refiner, part_of, _part_table(part_of, scores, refiner, table, settings))


def _ridge(inputs: Embeddings, targets: Floats, penalty: float) -> Floats:
    gram = inputs.T.astype(np.float64) @ inputs
    gram[np.diag_indices_from(gram)] += penalty
    return np.asarray(np.linalg.solve(gram, inputs.T @ targets), np.float64)


def _means(values: Floats, cells: NDArray[np.int64], count: int) -> Floats:
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, cells, values)
    means: Floats = total / np.maximum(1, np.bincount(cells, minlength=count))[:, None]
    return means


def _calibration(cell: int, raw: Floats, cells: NDArray[np.int64], scores: Floats, settings: RefinerSettings) -> Floats:
    """[M, M]: how predicted deviations become expected ones in a cell.

    Each expert's outcomes are regressed on its own prediction and on the mean prediction of all (the prompt's
    difficulty, as in item response theory); the two slopes are mixed. Slopes are shrunk towards 1.
    """
    inside = cells == cell
    experts = raw.shape[1]
    result = np.zeros((experts, experts))
    common = raw[inside].mean(1) if inside.any() else np.zeros(0)
    for expert in range(experts):
        target = scores[inside, expert]
        own = _slope(raw[inside, expert], target, settings.slope_support)
        shared = _slope(common, target, settings.slope_support)
        result[:, expert] += settings.common * shared / experts
        result[expert, expert] += (1 - settings.common) * own
    return settings.damping * result


def _slope(predicted: Floats, target: Floats, support: float) -> float:
    ran = ~np.isnan(target)
    if ran.sum() < 2:
        return 0.0
    x, y = predicted[ran], target[ran]
    x = x - x.mean()
    prior = support * float(x.var()) + 1e-12
    return float((x @ (y - y.mean()) + prior) / (x @ x + prior))


def _cluster(
    deviations: Floats, cells: NDArray[np.int64], quality: Floats, settings: RefinerSettings
) -> tuple[list[Floats], NDArray[np.int64]]:
    """Centroids of each cell, easiest part first, and the part of each prompt."""
    from sklearn.cluster import KMeans

    centroids: list[Floats] = []
    part = np.zeros(len(cells), np.int64)
    for cell in range(len(quality)):
        inside = cells == cell
        count = max(1, min(settings.parts, int(inside.sum()) // settings.min_size))
        if count == 1:
            centroids.append(np.zeros((1, quality.shape[1])))
            continue
        found = KMeans(count, n_init=4, random_state=settings.seed).fit(deviations[inside])
        order = np.argsort(-found.cluster_centers_.mean(1))
        centroids.append(found.cluster_centers_[order])
        part[inside] = np.argsort(order)[found.labels_]
    return centroids, part


def _names(cells: Sequence[str], centroids: Sequence[Floats]) -> tuple[tuple[str, ...], ...]:
    """`math/grade-school/2`: parts are numbered from the easiest. A category without own parts has `math/other/1`."""
    names = []
    for cell, centres in zip(cells, centroids, strict=True):
        stem = cell if "/" in cell else f"{cell}/{'all' if len(centres) == 1 else 'part'}"
        names.append((stem,) if len(centres) == 1 else tuple(f"{stem}/{n}" for n in range(1, len(centres) + 1)))
    return tuple(names)


def _part_table(
    part_of: Sequence[str], scores: Floats, refiner: Refiner, cells: QualityTable, settings: RefinerSettings
) -> QualityTable:
    """Outcomes of each part, shrunk towards what is predicted for it: the cell's quality plus the centroid."""
    names = [name for parts in refiner.parts for name in parts]
    total, support = counts(part_of, scores, names)
    prior = np.vstack([cells.quality[row] + centres for row, centres in enumerate(refiner.centroids)])
    quality = (total + settings.part_support * np.clip(prior, 0, 1)) / (support + settings.part_support)
    # An expert that was not run in a category is not chosen in its parts either.
    eligible = np.vstack([np.repeat(cells.eligible[[row]], len(c), 0) for row, c in enumerate(refiner.centroids)])
    seen = Counter(part_of)
    share = np.array([seen[name] for name in names]) / len(part_of)
    return QualityTable(tuple(names), quality, support, share, eligible & eligible_pairs(support, 1))
