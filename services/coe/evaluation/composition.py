"""The composition as served: categories, their learned parts where they pay off, and a plan for each budget.

For each budget, the plain category map and the refined one are compared by cross-validation on the training part. Parts
pay off where a budget must be allocated (docs/evaluation.md has the figures), so there the refined map is used unless
it is worse by more than a standard error; without a limit, it must be better by more than one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.planning import assign, guarded
from coe.mapper.cells import cell_names
from coe.mapper.outcomes import Outcomes
from coe.mapper.refiner import Refiner
from coe.mapper.refiner_fit import RefinerSettings, fit_refiner
from coe.mapper.solve import Solution
from coe.mapper.split import folds, groups
from coe.mapper.table import QualityTable, build_table
from coe.mapper.text_features import text_features

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
FOLDS = 4
# Fewer folds within each of those, because only the choice of a map depends on them.
VALIDATION_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Asked:
    """Features of the prompts, as available to the systems."""

    counts: Embeddings  # text features [n, F]
    embeddings: Embeddings

    def rows(self, index: NDArray[np.int64]) -> "Asked":
        return Asked(self.counts[index], self.embeddings[index])


@dataclass(frozen=True, eq=False)
class Levels:
    """The same outcomes at two levels: categories (`plain`) and their parts (`refined`)."""

    plain: QualityTable
    refiner: Refiner
    refined: QualityTable
    train_cells: tuple[str, ...]

    def table(self, level: str) -> QualityTable:
        return self.plain if level == "plain" else self.refined

    def told(self, asked: Asked) -> tuple[Embeddings, NDArray[np.int64]]:
        """The refiner's inputs, and each prompt's cell predicted from embedding and inputs, which the router has."""
        inputs = self.refiner.scaling.inputs(asked.counts)
        return inputs, self.refiner.heads.predict(np.hstack([asked.embeddings, inputs]))

    def cells(self, asked: Asked) -> dict[str, list[str]]:
        """The cell of each prompt at both levels."""
        inputs, cells = self.told(asked)
        return {
            "plain": [self.refiner.cells[cell] for cell in cells],
            "refined": self.refiner.parts_of(inputs, cells),
        }

    def quality(self, asked: Asked) -> Floats:
        """Expected scores [n, M] of the experts on each prompt."""
        return self.refiner.quality(*self.told(asked))


@dataclass(frozen=True, slots=True)
class Validated:
    """The gain of the refined map over the plain one in cross-validation, and its standard error.

    Both are over the prompts where the experts chosen by both maps were run. `overrun_b` is by how much the refined
    plans exceeded their expected active parameters on average, 0 if they did not.
    """

    gain: float
    error: float
    overrun_b: float

    def level(self, *, limited: bool) -> str:
        """The map to use, with a limited budget or without a limit."""
        return "refined" if self.gain > (-self.error if limited else self.error) else "plain"


@dataclass(frozen=True, eq=False)
class Composition:
    """`level_of` gives the map used for each budget, `validation` the comparison of both maps that decided it."""

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

    def plan(self, budget: float | None) -> tuple[QualityTable, Solution | None]:
        """The table and the solution behind a budget's choices; no solution if nothing fits."""
        level = self.level_of[budget]
        overrun = self.validation[budget].overrun_b if level == "refined" else 0.0
        table = self.levels.table(level)
        return table, guarded(table, self.active, budget, len(self.train_cells), overrun)

    def choices(self, cells: dict[str, list[str]]) -> dict[float | None, NDArray[np.int64]]:
        """The expert of each prompt, by budget, given the prompts' cells at both levels. Skips unsolvable budgets."""
        found = {}
        for budget, level in self.level_of.items():
            table, solution = self.plan(budget)
            if solution is not None:
                found[budget] = assign(table, solution, cells[level])
        return found


def fit_composition(
    outcomes: Outcomes,
    embeddings: Embeddings,
    active: Floats,
    budgets: Sequence[float | None],
    seed: int,
    progress: Callable[[str], None] = lambda step: None,
) -> Composition:
    """Fits the composition. All decisions are made on these outcomes."""
    asked = Asked(text_features(outcomes.prompts), embeddings)
    settings = RefinerSettings(seed=seed)
    validation = _validate(outcomes, asked, active, budgets, settings, progress)
    level_of = {budget: validated.level(limited=budget is not None) for budget, validated in validation.items()}
    progress("fitting the composition")
    return Composition(fit_levels(outcomes, asked, settings), active, level_of, validation)


def fit_levels(outcomes: Outcomes, asked: Asked, settings: RefinerSettings) -> Levels:
    names = cell_names(outcomes.categories, settings.min_cell)
    inner = list(folds(groups(outcomes), settings.folds, settings.seed))
    refined = fit_refiner(outcomes.categories, outcomes.scores, asked.counts, inner, settings, asked.embeddings)
    return Levels(build_table(names, outcomes.scores), refined.refiner, refined.table, tuple(names))


def _validate(
    outcomes: Outcomes,
    asked: Asked,
    active: Floats,
    budgets: Sequence[float | None],
    settings: RefinerSettings,
    progress: Callable[[str], None],
) -> dict[float | None, Validated]:
    scored: dict[float | None, list[Floats]] = {budget: [] for budget in budgets}
    overruns: dict[float | None, list[float]] = {budget: [] for budget in budgets}
    inner = replace(settings, seed=settings.seed + 1, folds=VALIDATION_FOLDS)
    for number, (rest, fold) in enumerate(folds(groups(outcomes), FOLDS, settings.seed), 1):
        progress(f"cross-validation, fold {number} of {FOLDS}")
        levels = fit_levels(outcomes.rows(rest), asked.rows(rest), inner)
        names = levels.cells(asked.rows(fold))
        for budget in budgets:
            tables = [levels.table(level) for level in names]
            solutions = [guarded(table, active, budget, len(rest)) for table in tables]
            pair = [
                (solution, assign(table, solution, named))
                for table, solution, named in zip(tables, solutions, names.values(), strict=True)
                if solution is not None
            ]
            if len(pair) == len(names):
                scored[budget].append(np.stack([outcomes.scores[fold, choice] for _, choice in pair], axis=1))
                refined, choice = pair[-1]
                overruns[budget].append(float(active[choice].mean()) - refined.active_params_b)
    return {budget: _validated(np.concatenate(pairs), overruns[budget]) for budget, pairs in scored.items() if pairs}


def _validated(pairs: Floats, overruns: Sequence[float]) -> Validated:
    """Compares scores [prompts, 2] of the plain and the refined map."""
    gain = pairs[:, 1] - pairs[:, 0]
    gain = gain[~np.isnan(gain)] if not np.isnan(gain).all() else np.zeros(1)
    overrun = max(0.0, float(np.mean(overruns)))
    return Validated(float(gain.mean()), float(gain.std() / np.sqrt(len(gain))), overrun)
