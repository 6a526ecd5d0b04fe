"""Outcome files: the score of each model of a pool on each prompt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coe.platform.errors import ArtifactError

TEXT_FIELDS = ("dataset", "prompt_id", "prompt", "category")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes by prompt. `scores` is float64 [prompts, models], 0 to 1, NaN where a model was not run on a prompt."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, index: Sequence[int] | NDArray[np.int64]) -> "Outcomes":
        """The given rows, in the order given."""
        index = [int(row) for row in index]
        return Outcomes(
            self.models,
            tuple(self.datasets[row] for row in index),
            tuple(self.prompt_ids[row] for row in index),
            tuple(self.prompts[row] for row in index),
            tuple(self.categories[row] for row in index),
            self.scores[index],
        )

    def scored(self) -> "Outcomes":
        """Without the prompts that no model was run on."""
        return self.rows(np.flatnonzero(~np.isnan(self.scores).all(axis=1)))

    def of_models(self, models: Sequence[str]) -> "Outcomes":
        """The same prompts with exactly these models; a model without outcomes becomes a column of NaN."""
        column = {model: index for index, model in enumerate(self.models)}
        scores = np.full((len(self), len(models)), np.nan)
        for target, model in enumerate(models):
            if model in column:
                scores[:, target] = self.scores[:, column[model]]
        return Outcomes(tuple(models), self.datasets, self.prompt_ids, self.prompts, self.categories, scores)


def read_outcomes(path: Path) -> Outcomes:
    """Reads JSON lines of `{"dataset", "prompt_id", "prompt", "category", "scores": {model: 0..1}}`.

    Other fields are ignored. Raises ArtifactError naming the first line that is not such an object.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no outcome file {path}", path=path)
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        # Read as bytes, so that `json.loads` decodes line by line: it skips a byte order mark, and errors have a line.
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    rows.append(_checked(json.loads(line)))
                except (ValueError, RecursionError) as error:
                    raise ArtifactError(f"{path.name}, line {number}: {error}", path=path, line=number) from None
    if not rows:
        raise ArtifactError(f"The outcome file {path.name} is empty", path=path)
    models = tuple(sorted({model for row in rows for model in row["scores"]}))
    scores = np.array([[row["scores"].get(model, np.nan) for model in models] for row in rows], np.float64)
    dataset, prompt_id, prompt, category = (tuple(str(row[field]) for row in rows) for field in TEXT_FIELDS)
    return Outcomes(models, dataset, prompt_id, prompt, category, scores)


def _checked(row: object) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    for field in TEXT_FIELDS:
        if not isinstance(row.get(field), str):
            raise ValueError(f"the field {field!r} must be a string")
    if not row["category"].split("/")[0].strip():
        raise ValueError("the field 'category' must name one: `math`, or `math/PART`")
    scores = row.get("scores")
    if not isinstance(scores, dict) or not scores:
        raise ValueError("the field 'scores' must map at least one model to a score")
    for model, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ValueError(f"the score of {model!r} must be a number from 0 to 1, not {json.dumps(score)}")
    return row
