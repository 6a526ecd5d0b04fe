"""A small model, and its import."""

from pathlib import Path

from coe.experts.bundle import Bundle
from coe.experts.gguf_source import GgufSource
from coe.experts.importer import import_model
from support.gguf_files import TinyModel

# Large enough for several chunks of weights.
MODEL = TinyModel(hidden=512, heads=8, kv_heads=2, head_dim=64, feed_forward=1536, layers=3)


def run(source: GgufSource, experts: Path, expert_id: str = "tiny", progress: object = None) -> Bundle:
    return import_model(source, experts, expert_id, origin="tiny.gguf", progress=progress or (lambda done, total: None))
