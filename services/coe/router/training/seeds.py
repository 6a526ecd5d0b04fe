"""Seed prompts by category and language, as frames and the topics to put into them.

They cover ways of asking, and languages, that the collected prompts of a category lack. The files are in
`coe/router/seeds`, one per category.
"""

from collections.abc import Iterator
from importlib.resources import files
from itertools import product

import yaml

from coe.router.training.data import LabelledPrompt

SOURCE = "seeds"


def seeds() -> list[LabelledPrompt]:
    """The seeds of all categories: every topic in every frame, and the whole prompts."""
    found = []
    for file in sorted((files("coe.router") / "seeds").iterdir(), key=lambda file: file.name):
        category = file.name.removesuffix(".yaml")
        for block in yaml.safe_load(file.read_text(encoding="utf-8")):
            language = block["language"]
            found += [LabelledPrompt(text, category, SOURCE, language) for text in _expanded(block)]
    return found


def _expanded(block: dict[str, list[str]]) -> Iterator[str]:
    for frame, topic in product(block.get("frames", []), block.get("topics", [])):
        yield frame.replace("{}", topic)
    yield from block.get("prompts", [])
