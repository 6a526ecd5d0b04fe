"""Reads and writes the refiner file next to a mapping: safetensors, with the names in its metadata.

It contains no text of any prompt. The file name contains a digest of the contents, so that each mapping in a folder
keeps its own refiner, and the current one stays in place until a new mapping replaces the old.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from coe.mapper.cells import CellHeads
from coe.mapper.inputs import Scaling
from coe.mapper.refiner import Refiner
from coe.mapper.text_features import NAMES
from coe.platform.errors import ArtifactError

FORMAT = "3"
# Name of the packaged file, and of files written by older versions.
FILE_NAME = "mapping.refiner.safetensors"


def named(mapping: Path, sha256: str) -> Path:
    """The path that the refiner with this digest is written to, next to its mapping."""
    return mapping.with_name(f"mapping.refiner.{sha256[:12]}.safetensors")


def refiner_of(mapping: Path, sha256: str) -> Path:
    """The file next to a mapping to read the refiner with this digest from."""
    own, unnamed = named(mapping, sha256), mapping.with_name(FILE_NAME)
    return unnamed if unnamed.is_file() and not own.is_file() else own


def dump_refiner(refiner: Refiner) -> tuple[bytes, str]:
    """The file's contents and their SHA-256, which the mapping file records.

    The heads must have been fitted on the inputs alone, without embeddings.
    """
    tensors = {
        "heads.weight": refiner.heads.weight,
        "heads.bias": refiner.heads.bias,
        "scaling.mean": refiner.scaling.mean,
        "scaling.deviation": refiner.scaling.deviation,
        "scaling.projection": refiner.scaling.projection,
        "scaling.phase": refiner.scaling.phase,
        "bias": refiner.bias,
        "weight": refiner.weight,
        **{f"centroids.{row}": centroids for row, centroids in enumerate(refiner.centroids)},
    }
    tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
    facts = {"cells": refiner.cells, "parts": refiner.parts, "features": NAMES}
    content = _ordered(save(tensors, {"format": FORMAT, "refiner": json.dumps(facts, ensure_ascii=False)}))
    return content, hashlib.sha256(content).hexdigest()


def _ordered(content: bytes) -> bytes:
    """Sorts the metadata, which safetensors writes in a varying order, so that equal refiners have equal digests."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at multiples of eight bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def load_refiner(path: Path, sha256: str) -> Refiner:
    """Reads a refiner. Raises ArtifactError when it is missing, corrupt, of another format or not the mapping's."""
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


def _build(tensors: Mapping[str, NDArray[np.float32]], facts: dict[str, object]) -> Refiner:
    cells, parts = facts["cells"], facts["parts"]
    if not isinstance(cells, list) or not isinstance(parts, list):
        raise ValueError("cells and parts must be lists")
    if facts["features"] != list(NAMES):
        raise ValueError("it uses other features of a prompt than this version: solve the mapping again")
    return Refiner(
        heads=CellHeads(tuple(cells), tensors["heads.weight"], tensors["heads.bias"]),
        parts=tuple(tuple(names) for names in parts),
        scaling=Scaling(
            tensors["scaling.mean"],
            tensors["scaling.deviation"],
            tensors["scaling.projection"],
            tensors["scaling.phase"],
        ),
        bias=tensors["bias"],
        weight=tensors["weight"],
        centroids=tuple(tensors[f"centroids.{row}"] for row in range(len(cells))),
    )
