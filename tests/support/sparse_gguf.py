"""GGUF files of any size that take no room on disk: every weight is zero, and a hole in the file."""

import os
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from support.gguf_files import TinyModel, write_metadata, write_vocabulary


def write_sparse_gguf(path: Path, model: TinyModel, vocabulary: int) -> Path:
    """A Llama of these dimensions. `vocabulary` may exceed the tokens that the file names."""
    writer = GGUFWriter(path, "llama")
    write_metadata(writer, model)
    write_vocabulary(writer)
    total = 0
    for name, rows, cols in _shapes(model, vocabulary):
        kind = model.kind if rows > 1 else GGMLQuantizationType.F32
        width, size = GGML_QUANT_SIZES[kind]
        nbytes = rows * cols // width * size
        shape = [rows, cols // width * size] if rows > 1 else [cols]
        writer.add_tensor_info(name, shape, np.dtype(np.uint8 if rows > 1 else np.float32), nbytes, raw_dtype=kind)
        total += -(-nbytes // writer.data_alignment) * writer.data_alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, path.stat().st_size + writer.data_alignment + total)
    return path


def _shapes(model: TinyModel, vocabulary: int) -> list[tuple[str, int, int]]:
    hidden, wide = model.hidden, model.feed_forward
    shapes = [("token_embd.weight", vocabulary, hidden), ("output_norm.weight", 1, hidden)]
    for layer in range(model.layers):
        rows = {
            "attn_norm": (1, hidden),
            "attn_q": (model.heads * model.head_dim, hidden),
            "attn_k": (model.kv_heads * model.head_dim, hidden),
            "attn_v": (model.kv_heads * model.head_dim, hidden),
            "attn_output": (hidden, model.heads * model.head_dim),
            "ffn_norm": (1, hidden),
            "ffn_gate": (wide, hidden),
            "ffn_up": (wide, hidden),
            "ffn_down": (hidden, wide),
        }
        shapes += [(f"blk.{layer}.{name}.weight", *shape) for name, shape in rows.items()]
    return shapes
