"""Loads prompts of other collections: outcome files, with rows of `prompt`, `dataset` and `category`.

Prompts whose label names a category of the router are one more source of it. All others show the router what belongs to
none of its categories (outlier exposure, Hendrycks et al. 2019).
"""

from collections.abc import Iterable
from pathlib import Path

from coe.router.training import rows
from coe.router.training.data import LabelledPrompt

# Labels that the router has under another name.
ALIASES = {"computer science": "coding", "health": "medical", "business": "finance", "economics": "finance"}
# Labels whose prompts are in several languages, with nothing to say which.
UNCLEAR = frozenset({"math-multilingual"})
# Collections that are copies of one known under another name, so that both are held out together.
ORIGINS = {
    "zeroeval-gsm8k": "openai/grade-school-math",
    "llmrouter-gsm8k": "openai/grade-school-math",
    "llmrouter-mbpp": "google-research/mbpp (copy in ulab-uiuc/FusionFactory)",
    "llmrouter-human_eval": "openai/human-eval",
    "llmrouter-math": "MATH",
    "zeroeval-math-l5": "MATH",
}


def load_others(paths: Iterable[Path]) -> list[LabelledPrompt]:
    """Loads prompts; the domain is the first part of their `category`. Raises ArtifactError naming a bad line."""
    found = []
    for path in paths:
        for number, row in rows.read(path):
            category, text, dataset = (rows.text(row, name, path, number) for name in ("category", "prompt", "dataset"))
            label = category.partition("/")[0]
            if label not in UNCLEAR:
                found.append(LabelledPrompt(text, ALIASES.get(label, label), ORIGINS.get(dataset, dataset)))
    return found
