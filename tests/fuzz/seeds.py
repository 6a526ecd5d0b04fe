"""Good files, small, to begin fuzzing from: made anew each time, so that none needs to be kept."""

import tempfile
from pathlib import Path

from gguf import GGMLQuantizationType as Q

from coe.experts.bundle import MANIFEST
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf
from support.hf_folders import write_hf_folder

# Small files are mutated faster, and where it matters.
FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")


def write_seeds(directory: Path) -> None:
    """`directory/TARGET/FAMILY` for every target that reads files."""
    for family in FAMILIES:
        model = TinyModel(family=family, layers=1, hidden=32, heads=2, kv_heads=1, feed_forward=32, kind=Q.Q4_0)
        with tempfile.TemporaryDirectory() as scratch:
            gguf = write_tiny_gguf(Path(scratch, "tiny.gguf"), model)
            folder = write_hf_folder(Path(scratch, "folder"), gguf, model)
            bundle = import_gguf(gguf, Path(scratch, "experts"), "tiny")
            shard = next(folder.glob("*.safetensors"))
            found = {
                "gguf": gguf,
                "safetensors": shard,
                "manifest": bundle.path / MANIFEST,
                "config": folder / "config.json",
                "tokenizer": folder / "tokenizer.json",
            }
            for target, path in found.items():
                (directory / target).mkdir(parents=True, exist_ok=True)
                (directory / target / family).write_bytes(path.read_bytes())
