"""The composition as it is served: categories, their learned parts where they pay, and a plan for each budget.

For each budget the plain category map and the refined one are compared by cross-validation on the training part. Parts
pay where a budget must be shared out (docs/evaluation.md has the figures), so there the refined map is taken unless it
is worse by more than a standard error; without a limit it must be better by more than one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coe.evaluation.planning import assign, guarded
from coe.mapper.cells import cell_names
from coe.mapper.inputs import Signs, read_signs
from coe.mapper.outcomes import Outcomes
from coe.mapper.refiner import Refiner
from coe.mapper.refiner_fit import RefinerSettings, fit_refiner
from coe.mapper.solve import Solution
from coe.mapper.split import folds, groups
from coe.mapper.table import QualityTable, build_table

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
FOLDS = 5
# Fewer within each of them: only the choice of a map depends on it.
VALIDATION_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Asked:
    """Prompts as the systems see them."""

    signs: Signs
    embeddings: Embeddings

    def rows(self, index: NDArray[np.int64]) -> "Asked":
        return Asked(self.signs.rows(index), self.embeddings[index])


@dataclass(frozen=True, eq=False)
class Levels:
    """The same outcomes at two levels: categories (`plain`) and their parts (`refined`)."""

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

    def told(self, asked: Asked) -> tuple[Embeddings, NDArray[np.int64]]:
        """The refiner's inputs, and the cell of each prompt: from embedding and words, as the router does it."""
        inputs = self.refiner.scaling.inputs(asked.signs)
        return inputs, self.refiner.heads.predict(np.hstack([asked.embeddings, inputs]))

    def cells(self, asked: Asked) -> dict[str, list[str]]:
        """The cell of each prompt at both levels."""
        inputs, cells = self.told(asked)
        return {
            "plain": [self.refiner.cells[cell] for cell in cells],
            "refined": self.refiner.parts_of(inputs, cells),
        }

    def quality(self, asked: Asked) -> Floats:
        """Expected scores [n, M], prompt by prompt."""
        return self.refiner.quality(*self.told(asked))


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

    def plan(self, budget: float | None) -> tuple[QualityTable, Solution | None]:
        """The table and the solution behind a budget's choices."""
        table = self.plain if self.level_of[budget] == "plain" else self.levels.refined
        return table, guarded(table, self.active, budget, len(self.train_cells))

    def choices(self, cells: dict[str, list[str]]) -> dict[float | None, NDArray[np.int64]]:
        """For each budget that something fits, the expert of each prompt whose cells at both levels are given."""
        found = {}
        for budget, level in self.level_of.items():
            choice = self.levels.choose(level, self.active, budget, len(self.train_cells), cells[level])
            if choice is not None:
                found[budget] = choice
        return found


def fit_composition(
    outcomes: Outcomes,
    embeddings: Embeddings,
    active: Floats,
    budgets: Sequence[float | None],
    seed: int,
    progress: Callable[[str], None] = lambda step: None,
) -> Composition:
    """Everything is decided on these outcomes."""
    asked = Asked(read_signs(outcomes.prompts), embeddings)
    settings = RefinerSettings(seed=seed)
    validation = _validate(outcomes, asked, active, budgets, settings, progress)
    level_of = {budget: validated.level(limited=budget is not None) for budget, validated in validation.items()}
    progress("fitting the composition")
    return Composition(_fit(outcomes, asked, settings), active, level_of, validation)


def _fit(outcomes: Outcomes, asked: Asked, settings: RefinerSettings) -> Levels:
    names = cell_names(outcomes.categories, settings.min_cell)
    inner = list(folds(groups(outcomes), settings.folds, settings.seed))
    refined = fit_refiner(outcomes.categories, outcomes.scores, asked.signs, inner, settings, asked.embeddings)
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
    inner = replace(settings, seed=settings.seed + 1, folds=VALIDATION_FOLDS)
    for number, (rest, fold) in enumerate(folds(groups(outcomes), FOLDS, settings.seed), 1):
        progress(f"cross-validation, fold {number} of {FOLDS}")
        levels = _fit(outcomes.rows(rest), asked.rows(rest), inner)
        names = levels.cells(asked.rows(fold))
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
