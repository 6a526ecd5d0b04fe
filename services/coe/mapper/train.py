"""Builds a mapping from outcomes: cells, parts and budgets. `build_mapping` is pure; `train_mapping` does the I/O."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coe.mapper.cells import cell_names
from coe.mapper.mapping import FALLBACK, Cell, Mapping, Plan
from coe.mapper.mapping_file import dump_mapping, parse_mapping
from coe.mapper.outcomes import Outcomes, read_outcomes
from coe.mapper.pool import PACKAGED, PoolExpert, read_pool, select
from coe.mapper.refiner import Refiner
from coe.mapper.refiner_file import dump_refiner, named
from coe.mapper.solve import Limits
from coe.mapper.split import folds, groups
from coe.mapper.table import MIN_SUPPORT, SHRINKAGE, QualityTable, build_table
from coe.mapper.text_features import text_features
from coe.platform.errors import InvalidPrompt

# The categories of the packaged router; the mapping needs a cell for each.
ROUTER_CATEGORIES = (
    "coding", "finance", "general", "japanese", "law", "math", "medical", "multilingual", "tool-use",
)  # fmt: skip
# Fewest prompts of a part for it to get a row of its own.
MIN_PART = 30
# Average active parameters of the named budgets, in billions; quality has no limit.
BALANCED_B = 31.0
ECONOMY_B = 15.0


def build_mapping(
    outcomes: Outcomes,
    pool: Sequence[PoolExpert],
    *,
    categories: Sequence[str] = ROUTER_CATEGORIES,
    balanced_b: float = BALANCED_B,
    economy_b: float = ECONOMY_B,
    hosted_b: float | None = None,
    min_support: int = MIN_SUPPORT,
    shrinkage: float = SHRINKAGE,
    refined: QualityTable | None = None,
) -> Mapping:
    """Builds a mapping with cells for the categories of the outcomes, their parts, and all router categories.

    `refined` is the table of a refiner's parts; without it, the larger parts named in the outcomes are used. `hosted_b`
    limits the total parameters hosted under each budget. Raises InvalidPrompt when nothing fits.
    """
    for limit in (balanced_b, economy_b, hosted_b):
        if limit is not None and not 0 < limit < float("inf"):
            raise InvalidPrompt(f"a budget must be a positive number of billions, not {limit}")
    outcomes = outcomes.of_models([expert.name for expert in pool])
    whole = [category.split("/")[0] for category in outcomes.categories]
    cells = _cells(whole, outcomes, min_support, shrinkage)
    named = cell_names(outcomes.categories, MIN_PART)
    parts = _cells(named, outcomes, min_support, shrinkage) if refined is None else _rows(refined)
    cells += [cell for cell in parts if cell.is_part]
    if len(cells) > len(set(whole)):
        # Categories without parts are in both groups: in the finer one as the part `other`.
        cells += [replace(cell, name=f"{cell.name}/other") for cell in parts if not cell.is_part]
    pooled = _cells([FALLBACK] * len(outcomes), outcomes, min_support, shrinkage)[0]
    known = {cell.name for cell in cells}
    cells += [
        replace(pooled, name=name, share=0.0, pooled=True) for name in {*categories, FALLBACK} if name not in known
    ]
    mapping = Mapping("unsaved", tuple(pool), tuple(sorted(cells, key=lambda cell: cell.name)), min_support)
    limits = {"quality": None, "balanced": balanced_b, "economy": economy_b}
    return replace(mapping, budgets={name: _plan(mapping, name, limit, hosted_b) for name, limit in limits.items()})


def _plan(mapping: Mapping, name: str, active_params_b: float | None, hosted_b: float | None) -> Plan:
    """Plans one budget. Raises InvalidPrompt naming it, because the user may not have asked for this budget."""
    try:
        return mapping.plan(Limits(active_params_b, hosted_b))
    except InvalidPrompt as error:
        budget = name if active_params_b is None else f"{name}, {active_params_b:g} B"
        message = f"{error.message} (budget {budget}; --budget, --economy and --hosted set the limits)"
        raise InvalidPrompt(message, **error.details) from None


@dataclass(frozen=True, slots=True)
class Trained:
    """A mapping and the text of its file.

    `unknown` are the models left out because their sizes are not known. `sparse` are the models that were run on less
    than half of the prompts, so that their means are not comparable with the others'.
    """

    mapping: Mapping
    text: str
    unknown: tuple[str, ...]
    sparse: tuple[str, ...]


def train_mapping(
    outcomes_path: Path,
    refiner_path: Path,
    *,
    experts_path: Path | None = None,
    balanced_b: float = BALANCED_B,
    economy_b: float = ECONOMY_B,
    hosted_b: float | None = None,
    parts: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """Builds a mapping from an outcome file. With `parts`, parts of categories are learned.

    Their refiner is then written to the folder of `refiner_path`, under a name that contains its digest.
    """
    outcomes = read_outcomes(outcomes_path)
    pool, unknown = select(outcomes.models, read_pool(experts_path or PACKAGED))
    outcomes = outcomes.of_models([expert.name for expert in pool]).scored()
    refined, content, digest = None, b"", ""
    # Cross-fitting needs at least two different prompts.
    if parts and len(set(groups(outcomes).tolist())) > 1:
        refined, refiner = _refine(outcomes, progress)
        content, digest = dump_refiner(refiner)
    mapping = build_mapping(
        outcomes, pool, balanced_b=balanced_b, economy_b=economy_b, hosted_b=hosted_b, refined=refined
    )
    source: dict[str, object] = {
        "outcomes": outcomes_path.name,
        "sha256": hashlib.sha256(outcomes_path.read_bytes()).hexdigest(),
        "prompts": len(outcomes),
        "shrinkage": SHRINKAGE,
    }
    text = dump_mapping(replace(mapping, refiner=digest), source)
    ran = (~np.isnan(outcomes.scores)).mean(0)
    sparse = tuple(expert.name for expert, share in zip(pool, ran, strict=True) if share < 0.5)
    trained = Trained(parse_mapping(text), text, tuple(unknown), sparse)
    if content:
        _write(named(refiner_path, digest), content)
    return trained


def _write(path: Path, content: bytes) -> None:
    """Writes atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _refine(outcomes: Outcomes, progress: Callable[[int, int], None]) -> tuple[QualityTable, Refiner]:
    from coe.mapper.refiner_fit import RefinerSettings, fit_refiner

    settings = RefinerSettings()
    inner = list(folds(groups(outcomes), settings.folds, settings.seed))
    seen = text_features(outcomes.prompts)
    fitted = fit_refiner(outcomes.categories, outcomes.scores, seen, inner, settings, progress=progress)
    return fitted.table, fitted.refiner


def _cells(names: Sequence[str], outcomes: Outcomes, min_support: int, shrinkage: float) -> list[Cell]:
    return _rows(build_table(names, outcomes.scores, shrinkage=shrinkage, min_support=min_support))


def _rows(table: QualityTable) -> list[Cell]:
    return [
        Cell(
            name,
            tuple(float(value) for value in np.round(table.quality[row], 4)),
            tuple(int(value) for value in table.support[row]),
            round(float(table.share[row]), 6),
        )
        for row, name in enumerate(table.cells)
    ]
