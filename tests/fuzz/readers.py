"""What is fuzzed in Python: readers of foreign files. Each may raise CoEError, nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

from coe.experts.gguf_source import GgufSource
from coe.experts.hf_config import read_hf_config
from coe.experts.hf_source import read_json
from coe.experts.hf_tokenizer import read_hf_tokenizer
from coe.experts.layout import plan_tensors
from coe.experts.manifest import TokenizerFacts, read_manifest
from coe.experts.safetensors_file import SafetensorsFile
from coe.experts.tokenizer import ExpertTokenizer

Reader = Callable[[Path], None]
FACTS = TokenizerFacts(chat_template="", bos_id=None, add_bos=False, eos_ids=(), sha256="")
TEXT = "Hello, \u4e16\u754c <|im_start|> 123\n"


def read_gguf(path: Path) -> None:
    source = GgufSource.open(path)
    try:
        for tensor in plan_tensors(source.config, source.tensors):
            for part in tensor.sources:
                source.read_rows(part, 0, min(part.rows, 64))
        spec = source.tokenizer()
        ExpertTokenizer(spec.json, FACTS).encode(TEXT)
    finally:
        source.close()


def read_safetensors(path: Path) -> None:
    with SafetensorsFile(path) as file:
        for tensor in file.tensors.values():
            file.read_rows(tensor, 0, min(tensor.rows, 64))


def read_bundle_manifest(path: Path) -> None:
    manifest = read_manifest(path)
    assert manifest.layout_key
    assert manifest.weights_digest


def read_config(path: Path) -> None:
    config = read_hf_config(read_json(path))
    for layer in range(min(config.layers, 64)):
        assert len(config.layer_rope_factors(layer)) in (0, config.rope_dim // 2)


def read_tokenizer(path: Path) -> None:
    folder = path.parent / f"{path.name}.folder"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_bytes(path.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    ExpertTokenizer(read_hf_tokenizer(folder).json, FACTS).encode(TEXT)


READERS: dict[str, Reader] = {
    "gguf": read_gguf,
    "safetensors": read_safetensors,
    "manifest": read_bundle_manifest,
    "config": read_config,
    "tokenizer": read_tokenizer,
}
