"""Adds a user's category to a trained router from a folder of prompts, without retraining the rest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from coe.encoder import Encoder
from coe.platform.errors import ArtifactError
from coe.router.artifact import Artifact
from coe.router.model import RouterModel
from coe.router.training.data import load

MIN_PROMPTS = 8
MOST_PROTOTYPES = 300
INVERSE_REGULARISATION = 30.0
# Suffixes of files with one prompt per line, and with one JSON object per line.
LINES, OBJECTS = ".txt", ".jsonl"


def read_folder(folder: Path) -> list[str]:
    """The distinct prompts of a folder: lines of `*.txt` and `prompt` fields of `*.jsonl`. Raises ArtifactError."""
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder", folder=folder)
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (LINES, OBJECTS)]
    if not files:
        raise ArtifactError(
            f"{folder} has no *.txt (one prompt per line) and no *.jsonl (with `prompt`)", folder=folder
        )
    texts: dict[str, None] = {}
    for path in files:
        found = _lines(path) if path.suffix.lower() == LINES else [prompt.text for prompt in load(path)]
        texts.update(dict.fromkeys(text.strip() for text in found))
    return [text for text in texts if text]


def _lines(path: Path) -> list[str]:
    try:
        # utf-8-sig, because some editors write a byte order mark.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text: {error}", path=path) from None


def add_category(artifact: Artifact, name: str, texts: Sequence[str], encoder: Encoder, *, seed: int = 0) -> Artifact:
    """The artifact with one more category: a logistic gate, fitted against the prototypes of all other categories.

    Prompts that the gate does not claim keep their relative probabilities. A category added before is replaced. Raises
    ArtifactError when the router was trained with the category, when it has too few prompts, and when its name is
    invalid: empty, not printable, or with a slash, which would make it a part of another category.
    """
    if "/" in name or not name.isprintable() or not name.strip():
        raise ArtifactError(
            f"{name!r} is not a valid category name: a / separates a category from its sub-category", category=name
        )
    model = _without(artifact.model, name)
    if len(texts) < MIN_PROMPTS:
        raise ArtifactError(f"a category needs at least {MIN_PROMPTS} prompts, {name} has {len(texts)}", category=name)
    mine = encoder.encode(texts)
    others = model.neighbours.prototypes
    gate = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=500, random_state=seed)
    with threadpool_limits(1):
        gate.fit(np.concatenate([others, mine]), np.repeat([0, 1], [len(others), len(mine)]))
    kept = np.random.default_rng(seed).permutation(len(mine))[:MOST_PROTOTYPES]
    neighbours = replace(
        model.neighbours,
        prototypes=np.concatenate([others, mine[kept]]),
        labels=np.concatenate([model.neighbours.labels, np.full(len(kept), len(model.categories))]),
    )
    extended = replace(
        model,
        categories=(*model.categories, name),
        neighbours=neighbours,
        gate_weight=np.concatenate([model.gate_weight, gate.coef_.astype(np.float32)]),
        gate_bias=np.append(model.gate_bias, gate.intercept_).astype(np.float32),
    )
    return replace(artifact, model=extended)


def _without(model: RouterModel, name: str) -> RouterModel:
    """The model without the gate of a category, if it has one. Raises ArtifactError for a category of the heads."""
    if name not in model.categories:
        return model
    number = model.categories.index(name)
    gate = number - (len(model.categories) - len(model.gate_bias))
    if gate < 0:
        raise ArtifactError(f"the router already knows the category {name}: it was trained with it", category=name)
    labels = model.neighbours.labels
    others = labels != number
    neighbours = replace(
        model.neighbours,
        prototypes=model.neighbours.prototypes[others],
        labels=np.where(labels > number, labels - 1, labels)[others],
    )
    return replace(
        model,
        categories=tuple(category for category in model.categories if category != name),
        neighbours=neighbours,
        gate_weight=np.delete(model.gate_weight, gate, axis=0),
        gate_bias=np.delete(model.gate_bias, gate),
    )
