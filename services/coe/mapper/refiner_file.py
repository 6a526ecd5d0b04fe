"""The refiner beside its mapping: safetensors for the numbers, its metadata for the names. No text of any prompt."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from coe.mapper.refiner import Refiner
from coe.mapper.text_features import NAMES
from coe.platform.errors import ArtifactError

FORMAT = "1"
FILE_NAME = "mapping.refiner.safetensors"
MATRICES = (
    "cell_weight", "cell_bias", "feature_mean", "feature_deviation", "weight", "offset", "calibration",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncoderKind:
    """How the encoder was opened; vectors of another kind would mean nothing to the refiner."""

    fingerprint: str
    max_tokens: int


def save_refiner(path: Path, refiner: Refiner, encoder: EncoderKind) -> str:
    """Writes the file and returns its SHA-256, which the mapping file repeats."""
    tensors = {name: np.ascontiguousarray(getattr(refiner, name), np.float32) for name in MATRICES}
    tensors |= {f"centroids.{row}": np.ascontiguousarray(c) for row, c in enumerate(refiner.centroids)}
    facts = {
        "cells": refiner.cells,
        "parts": refiner.parts,
        "features": NAMES,
        "encoder": encoder.fingerprint,
        "max_tokens": encoder.max_tokens,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"format": FORMAT, "refiner": json.dumps(facts, ensure_ascii=False)})
    partial.chmod(0o644)
    partial.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_refiner(path: Path, sha256: str) -> tuple[Refiner, EncoderKind]:
    """Raises ArtifactError when the file is missing, corrupt, of another format or not the mapping's."""
    if not path.is_file():
        raise ArtifactError(f"The mapping's refiner {path.name} is missing", path=path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ArtifactError(f"{path.name} is not the refiner that the mapping was solved with", path=path)
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        if metadata.get("format") != FORMAT:
            raise ArtifactError(f"{path.name} has format {metadata.get('format')}, this version reads {FORMAT}")
        return _build(tensors, json.loads(metadata["refiner"]))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"The refiner {path.name} is corrupt: {error}", path=path) from error


def _build(tensors: Mapping[str, NDArray[np.float32]], facts: dict[str, object]) -> tuple[Refiner, EncoderKind]:
    cells, parts = facts["cells"], facts["parts"]
    if not isinstance(cells, list) or not isinstance(parts, list) or facts["features"] != list(NAMES):
        raise ValueError("it counts other features of a prompt than this version: solve the mapping again")
    refiner = Refiner(
        cells=tuple(cells),
        parts=tuple(tuple(names) for names in parts),
        centroids=tuple(tensors[f"centroids.{row}"] for row in range(len(cells))),
        **{name: tensors[name] for name in MATRICES},
    )
    return refiner, EncoderKind(str(facts["encoder"]), int(str(facts["max_tokens"])))
