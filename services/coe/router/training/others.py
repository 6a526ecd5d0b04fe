"""Prompts of other collections, with labels of their own: outcome data, rows with `prompt`, `dataset` and `category`.

Where the label names a category of the router, they are one more source of it. All others show the router what no
category of it is about (outlier exposure, Hendrycks et al. 2019).
"""

from collections.abc import Iterable
from pathlib import Path

from coe.router.training import rows
from coe.router.training.data import LabelledPrompt

# Labels that mean a category of another name.
ALIASES = {"computer science": "coding", "health": "medical", "business": "finance", "economics": "finance"}
# Prompts with this label are of several languages, and nothing says which.
UNCLEAR = frozenset({"math-multilingual"})
# Collections that were copied from one that is there under another name: held out together.
ORIGINS = {
    "zeroeval-gsm8k": "openai/grade-school-math",
    "llmrouter-gsm8k": "openai/grade-school-math",
    "llmrouter-mbpp": "google-research/mbpp (copy in ulab-uiuc/FusionFactory)",
    "llmrouter-human_eval": "openai/human-eval",
    "llmrouter-math": "MATH",
    "zeroeval-math-l5": "MATH",
}


def load_others(paths: Iterable[Path]) -> list[LabelledPrompt]:
    """Prompts with the first part of their `category` as domain. Raises ArtifactError that names a bad line."""
    found = []
    for path in paths:
        for number, row in rows.read(path):
            category, text, dataset = (rows.text(row, name, path, number) for name in ("category", "prompt", "dataset"))
            label = category.partition("/")[0]
            if label not in UNCLEAR:
                found.append(LabelledPrompt(text, ALIASES.get(label, label), ORIGINS.get(dataset, dataset)))
    return found
