"""The composition as it is served: categories, their learned parts where they pay, and a plan for each budget.

For each budget the plain category map and the refined one are compared by cross-validation on the training part. Parts
pay where a budget must be shared out (docs/evaluation.md has the figures), so there the refined map is taken unless it
is worse by more than a standard error; without a limit it must be better by more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.planning import assign, guarded
from coe.mapper.cells import CellHeads, cell_names
from coe.mapper.outcomes import Outcomes
from coe.mapper.refiner import Refiner
from coe.mapper.refiner_fit import RefinerSettings, fit_refiner
from coe.mapper.solve import Solution
from coe.mapper.split import folds, groups
from coe.mapper.table import QualityTable, build_table
from coe.mapper.text_features import text_features

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
FOLDS = 5
# Fewer within each of them: only the choice of a map depends on it.
VALIDATION_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Levels:
    """The same outcomes at two levels: categories (`plain`) and their parts (`refined`)."""

    heads: CellHeads
    plain: QualityTable
    refiner: Refiner
    refined: QualityTable
    train_cells: tuple[str, ...]

    def choose(
        self, level: str, active: Floats, budget: float | None, prompts: int, names: Sequence[str]
    ) -> NDArray[np.int64] | None:
        """The expert of each prompt whose cell is named; None when nothing fits the budget."""
        table = self.plain if level == "plain" else self.refined
        solution = guarded(table, active, budget, prompts)
        return None if solution is None else assign(table, solution, names)

    def cells(self, level: str, features: Embeddings, embeddings: Embeddings) -> list[str]:
        """The cell of each prompt at a level."""
        if level == "plain":
            return [self.heads.names[index] for index in self.heads.predict(embeddings)]
        return self.refiner.parts_of(features, embeddings)


@dataclass(frozen=True, slots=True)
class Validated:
    """Mean scores in cross-validation, and the standard error of their difference over prompts."""

    plain: float
    refined: float
    error: float

    def level(self, *, limited: bool) -> str:
        """The map to use, under a limited budget or without a limit."""
        gain = self.refined - self.plain
        return "refined" if gain > (-self.error if limited else self.error) else "plain"


@dataclass(frozen=True, eq=False)
class Composition:
    """`level_of` says for each budget which map is used, `validation` what both scored in cross-validation."""

    levels: Levels
    active: Floats
    level_of: dict[float | None, str]
    validation: dict[float | None, Validated]

    @property
    def plain(self) -> QualityTable:
        return self.levels.plain

    @property
    def train_cells(self) -> tuple[str, ...]:
        return self.levels.train_cells

    def categories(self, embeddings: Embeddings) -> list[str]:
        """The category of each prompt, from its text alone."""
        return self.levels.cells("plain", np.empty((0, 0), np.float32), embeddings)

    def plan(self, budget: float | None) -> tuple[QualityTable, Solution | None]:
        """The table and the solution behind a budget's choices."""
        table = self.plain if self.level_of[budget] == "plain" else self.levels.refined
        return table, guarded(table, self.active, budget, len(self.train_cells))

    def choices(self, prompts: Sequence[str], embeddings: Embeddings) -> dict[float | None, NDArray[np.int64]]:
        """For each budget that something fits, the expert of each prompt."""
        features = text_features(prompts)
        found = {}
        for budget, level in self.level_of.items():
            names = self.levels.cells(level, features, embeddings)
            choice = self.levels.choose(level, self.active, budget, len(self.train_cells), names)
            if choice is not None:
                found[budget] = choice
        return found


def fit_composition(
    outcomes: Outcomes, embeddings: Embeddings, active: Floats, budgets: Sequence[float | None], seed: int
) -> Composition:
    """Everything is decided on these outcomes."""
    features = text_features(outcomes.prompts)
    settings = RefinerSettings(seed=seed)
    validation = _validate(outcomes, features, embeddings, active, budgets, settings)
    level_of = {budget: validated.level(limited=budget is not None) for budget, validated in validation.items()}
    return Composition(_fit(outcomes, features, embeddings, settings), active, level_of, validation)


def _fit(outcomes: Outcomes, features: Embeddings, embeddings: Embeddings, settings: RefinerSettings) -> Levels:
    names = cell_names(outcomes.categories, settings.min_cell)
    inner = list(folds(groups(outcomes), settings.folds, settings.seed))
    refined = fit_refiner(outcomes.categories, outcomes.scores, features, embeddings, inner, settings)
    found = refined.refiner
    heads = CellHeads(found.cells, found.cell_weight, found.cell_bias)
    return Levels(heads, build_table(names, outcomes.scores), refined.refiner, refined.table, tuple(names))


def _validate(
    outcomes: Outcomes,
    features: Embeddings,
    embeddings: Embeddings,
    active: Floats,
    budgets: Sequence[float | None],
    settings: RefinerSettings,
) -> dict[float | None, Validated]:
    scored: dict[float | None, list[Floats]] = {budget: [] for budget in budgets}
    inner = replace(settings, seed=settings.seed + 1, folds=VALIDATION_FOLDS)
    for rest, fold in folds(groups(outcomes), FOLDS, settings.seed):
        levels = _fit(outcomes.rows(rest), features[rest], embeddings[rest], inner)
        names = {level: levels.cells(level, features[fold], embeddings[fold]) for level in ("plain", "refined")}
        for budget in budgets:
            chosen = [levels.choose(level, active, budget, len(rest), named) for level, named in names.items()]
            pair = [outcomes.scores[fold, choice] for choice in chosen if choice is not None]
            if len(pair) == len(names):
                scored[budget].append(np.stack(pair, axis=1))
    return {budget: _validated(np.concatenate(pairs)) for budget, pairs in scored.items() if pairs}


def _validated(pairs: Floats) -> Validated:
    """Scores [prompts, 2] of the plain and the refined map."""
    gain = pairs[:, 1] - pairs[:, 0]
    plain, refined = np.nanmean(pairs, axis=0)
    return Validated(float(plain), float(refined), float(np.nanstd(gain) / np.sqrt(len(gain))))
