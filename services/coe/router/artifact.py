"""Reads and writes the router artifact: a safetensors file whose metadata holds everything that is not a tensor.

It contains no text of any training prompt.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as serialized

from coe.platform.errors import ArtifactError
from coe.router.model import Detectors, Heads, Neighbours, RouterModel, Temperature
from coe.router.novelty import Novelty
from coe.router.phrases import Phrases
from coe.router.policy import Thresholds
from coe.router.spelling import PIECE_BUCKETS, WORD_BUCKETS, Spelling

FORMAT = "4"
FILE_NAME = "router.safetensors"
# Prototypes are unit vectors, stored as int8 scaled by each vector's largest component.
INT8_MAX = 127


@dataclass(frozen=True, slots=True)
class EncoderKind:
    """How the encoder was opened for training; the artifact is meaningless with any other embeddings."""

    fingerprint: str
    max_tokens: int
    tail_tokens: int
    int8: bool
    layers: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A trained router. `figures` are its validation results.

    `version` identifies it in every event. It is derived from the content on saving.
    """

    model: RouterModel
    novelty: Novelty
    thresholds: Thresholds
    encoder: EncoderKind
    figures: Mapping[str, float]
    version: str = ""


def packaged() -> Path:
    """Path of the artifact shipped with the package."""
    return Path(str(files("coe.router") / "artifacts" / FILE_NAME))


def trained(home: Path) -> Path:
    """Path that `coe train router` writes to and where a service looks first."""
    return home / "artifacts" / FILE_NAME


def locate(home: Path) -> Path:
    """Path of the locally trained artifact if there is one, else of the packaged one."""
    path = trained(home)
    return path if path.is_file() else packaged()


def save(path: Path, artifact: Artifact) -> str:
    """Writes the file atomically and returns the version. Raises OSError."""
    model = artifact.model
    vectors = model.neighbours.prototypes
    scale = np.abs(vectors).max(1, keepdims=True) / INT8_MAX
    tensors: dict[str, NDArray[np.generic]] = {
        "heads.weight": model.heads.weight.astype(np.float16),
        "heads.bias": model.heads.bias.astype(np.float32),
        "heads.lexical_weight": model.heads.lexical_weight.T.astype(np.float16),
        "prototypes": np.rint(vectors / scale).astype(np.int8),
        "prototype_labels": model.neighbours.labels.astype(np.uint8),
        "detectors.weight": model.detectors.weight.astype(np.float32),
        "detectors.bias": model.detectors.bias.astype(np.float32),
        "gates.weight": model.gate_weight.astype(np.float16),
        "gates.bias": model.gate_bias.astype(np.float32),
        "spelling.pieces": np.packbits(artifact.novelty.spelling.pieces),
        "spelling.words": np.packbits(artifact.novelty.spelling.words),
        "phrases": artifact.novelty.phrases.weight.astype(np.float16),
    }
    # safetensors writes the memory as is, whatever the strides.
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    facts = {
        "categories": model.categories,
        "neighbours": {"k": model.neighbours.k, "sharpness": model.neighbours.sharpness},
        "neighbour_share": model.neighbour_share,
        "temperature": asdict(model.temperature),
        "phrases_bias": artifact.novelty.phrases.bias,
        "thresholds": asdict(artifact.thresholds),
        "encoder": asdict(artifact.encoder),
        "figures": dict(artifact.figures),
    }
    header = json.dumps(facts, sort_keys=True)
    checksum = _checksum(header, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    # Not with save_file: on a full disk, safetensors raises an error of its own instead of OSError.
    partial.write_bytes(serialized(tensors, {"format": FORMAT, "router": header, "checksum": checksum}))
    partial.chmod(0o644)
    partial.replace(path)
    return _version(checksum)


def load(path: Path) -> Artifact:
    """Reads an artifact. Raises ArtifactError when the file is missing, corrupt or of another format."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"No router artifact at {path}: train one with `coe train router`", path=path) from error
    try:
        return _parse(content, path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"The router artifact {path.name} is corrupt: {error}", path=path) from error


def _parse(content: bytes, path: Path) -> Artifact:
    tensors = {
        name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        for name, tensor in deserialize(content)  # type: ignore[no-untyped-call]
    }
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    if metadata["format"] != FORMAT:
        found = metadata["format"]
        message = f"The router artifact {path.name} has format {found}, this version reads {FORMAT}: train it again"
        raise ArtifactError(message, path=path, format=found)
    if metadata["checksum"] != _checksum(metadata["router"], tensors):
        raise ValueError("its checksum does not match")
    facts = json.loads(metadata["router"])
    prototypes = tensors["prototypes"].astype(np.float32)
    heads = Heads(
        tensors["heads.weight"].astype(np.float32),
        tensors["heads.bias"],
        np.ascontiguousarray(tensors["heads.lexical_weight"].T, np.float32),
    )
    model = RouterModel(
        categories=tuple(facts["categories"]),
        heads=heads,
        neighbours=Neighbours(
            prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True),
            tensors["prototype_labels"].astype(np.int64),
            **facts["neighbours"],
        ),
        neighbour_share=facts["neighbour_share"],
        temperature=Temperature(**facts["temperature"]),
        detectors=Detectors(tensors["detectors.weight"], tensors["detectors.bias"]),
        gate_weight=tensors["gates.weight"].astype(np.float32),
        gate_bias=tensors["gates.bias"],
    )
    return Artifact(
        model,
        Novelty(
            Spelling(
                np.unpackbits(tensors["spelling.pieces"], count=PIECE_BUCKETS).astype(np.bool_),
                np.unpackbits(tensors["spelling.words"], count=WORD_BUCKETS).astype(np.bool_),
            ),
            Phrases(tensors["phrases"].astype(np.float32), facts["phrases_bias"]),
        ),
        Thresholds(**facts["thresholds"]),
        EncoderKind(**facts["encoder"]),
        facts["figures"],
        _version(metadata["checksum"]),
    )


def _version(checksum: str) -> str:
    return f"router-{checksum[:12]}"


_DTYPES = {"F16": np.float16, "F32": np.float32, "I8": np.int8, "U8": np.uint8}


def _checksum(header: str, tensors: Mapping[str, NDArray[np.generic]]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
