"""A Hugging Face folder (config.json, *.safetensors, tokenizer.json) as a ModelSource."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coe.experts.fingerprint import fingerprint
from coe.experts.hf_config import read_hf_config
from coe.experts.hf_tokenizer import read_hf_tokenizer
from coe.experts.safetensors_file import SafetensorsFile, StoredTensor
from coe.experts.source import ModelCard, SourceTensor, TokenizerSpec
from coe.platform.errors import ArtifactError

MAX_JSON_BYTES = 64 << 20
SINGLE = "model.safetensors"
FORMATS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_PREFIX = re.compile(r"^(language_model\.)?(model\.)?(language_model\.)?")
_TOP = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_BLOCK = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


class HfSource:
    """Matrices keep their 16 or 32 bits; vectors become float32. Gemma's norms get the 1 added that its checkpoints
    leave out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        document = read_json(folder / "config.json")
        if document.get("quantization_config"):
            raise ArtifactError("quantised safetensors are not supported: import a GGUF file of that quantisation")
        self.config = read_hf_config(document)
        self._gemma = self.config.architecture.startswith("gemma")
        self._files: list[SafetensorsFile] = []
        self._stored: dict[str, tuple[SafetensorsFile, StoredTensor]] = {}
        try:
            self._open_files()
        except BaseException:
            self.close()
            raise
        self.tensors = {name: self._described(name, tensor) for name, (_, tensor) in self._stored.items()}
        self.card = ModelCard(
            name=_name(document) or folder.resolve().name,
            licence=_licence(folder),
            description="",
            fingerprint=self._fingerprint(document),
            parameters=sum(tensor.rows * tensor.cols for tensor in self.tensors.values()),
        )

    def tokenizer(self) -> TokenizerSpec:
        return read_hf_tokenizer(self._folder)

    def read_rows(self, tensor: SourceTensor, start: int, stop: int) -> np.ndarray:
        file, stored = self._stored[tensor.name]
        raw = file.read_rows(stored, start, stop)
        if not _is_vector(tensor.name):
            return raw
        values = as_float32(raw, stored.kind)
        if self._gemma and tensor.name.endswith("norm.weight"):
            values = values + 1
        return values.view(np.uint8)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _open_files(self) -> None:
        for path in _weight_files(self._folder):
            file = SafetensorsFile(path)
            self._files.append(file)
            for name, tensor in file.tensors.items():
                canonical = canonical_name(name, gemma=self._gemma)
                if canonical is None or (canonical == "output.weight" and self.config.tied):
                    continue
                if canonical in self._stored:
                    raise ArtifactError(f"the folder contains tensor {name} twice")
                self._stored[canonical] = (file, tensor)

    def _described(self, name: str, stored: StoredTensor) -> SourceTensor:
        return SourceTensor(name, "f32" if _is_vector(name) else FORMATS[stored.kind], stored.rows, stored.cols)

    def _fingerprint(self, document: dict[str, Any]) -> str:
        facts = json.dumps(document, sort_keys=True)
        return fingerprint(
            facts,
            (
                (name, tensor.rows, lambda row, file=file, tensor=tensor: file.read_rows(tensor, row, row + 1))  # type: ignore[misc]
                for name, (file, tensor) in sorted(self._stored.items())
            ),
        )


def canonical_name(name: str, *, gemma: bool) -> str | None:
    """GGUF's name for a tensor, or None if it is not part of the decoder."""
    path, _, leaf = _PREFIX.sub("", name).rpartition(".")
    if leaf not in ("weight", "bias"):
        return None
    if path in _TOP:
        return f"{_TOP[path]}.{leaf}"
    block = re.fullmatch(r"layers\.(\d+)\.(.+)", path)
    if block is None:
        return None
    kind = {**_BLOCK, **(_GEMMA_BLOCK if gemma else {})}.get(block[2])
    return f"blk.{block[1]}.{kind}.{leaf}" if kind else None


def _weight_files(folder: Path) -> list[Path]:
    """The shards that the index lists, else `model.safetensors`, else all *.safetensors files.

    The order matters: a folder may also hold the same weights in another form.
    """
    index = folder / f"{SINGLE}.index.json"
    if index.is_file():
        named = read_json(index).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise ArtifactError(f"{index} lists no files")
        shards = sorted(set(map(str, named.values())))
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise ArtifactError(f"{folder} is incomplete: {shard} is missing")
        return [folder / shard for shard in shards]
    single = folder / SINGLE
    paths = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ArtifactError(f"{folder} has no .safetensors files")
    return paths


def as_float32(raw: np.ndarray, kind: str) -> np.ndarray:
    """Stored rows converted to float32 [rows, cols]."""
    if kind == "BF16":
        widened: np.ndarray = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return widened
    return raw.view(np.float16 if kind == "F16" else np.float32).astype(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """Raises ArtifactError when the file is not a JSON object of reasonable size."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ArtifactError(f"{path} is too large")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} is not a JSON object")
    return document


def _name(document: Mapping[str, Any]) -> str:
    path = document.get("_name_or_path")
    # Lone surrogates can't be encoded as UTF-8 when the manifest is written.
    return Path(path.encode(errors="replace").decode()).name if isinstance(path, str) else ""


def _is_vector(name: str) -> bool:
    return name.endswith((".bias", "norm.weight"))


def _licence(folder: Path) -> str:
    """The `license:` line in the front matter of the model card."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    with card.open(encoding="utf-8", errors="replace") as file:
        found = re.search(r"^license: *(\S+)", file.read(1 << 16), re.MULTILINE)
    return found[1] if found else ""
