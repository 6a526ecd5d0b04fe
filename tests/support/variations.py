"""Many experts out of one: seeded variations of a real expert's weights, as bundles of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from coe import native
from coe.experts.bundle import MANIFEST, TOKENIZER, WEIGHTS, Bundle
from coe.experts.gguf_source import GgufSource
from coe.experts.layout import plan_tensors
from coe.native import packing

# Bytes and columns of a block of GGUF's Q4_1; it begins with the scale and the minimum as float16.
BLOCK_BYTES, SCALE_BYTES = 20, 4
SPREAD = 0.25


class Variations:
    """Every layer's norms and attention outputs of `original`, made from the Q4_1 file `gguf`, are scaled by noise."""

    def __init__(self, original: Bundle, gguf: Path) -> None:
        self._original = original
        source = GgufSource.open(gguf)
        try:
            self._raw = {
                tensor.name: (tensor.format, source.read_rows(tensor.sources[0], 0, tensor.sources[0].rows))
                for tensor in plan_tensors(source.config, source.tensors)
                if tensor.name.endswith(("attention_output", "norm"))
            }
        finally:
            source.close()

    def make(self, experts_dir: Path, seed: int) -> Bundle:
        """`ID-vSEED`, marked synthetic. Takes the bytes of the original on disk once more."""
        manifest = self._original.manifest
        path = experts_dir / f"{manifest.id}-v{seed}"
        path.mkdir(parents=True)
        os.link(self._original.tokenizer_path, path / TOKENIZER)
        shutil.copyfile(self._original.weights_path, path / WEIGHTS)
        checksums = list(manifest.checksums)
        with (path / WEIGHTS).open("r+b") as file:
            touched: set[int] = set()
            for offset, data in self._changed(np.random.default_rng(seed)):
                os.pwrite(file.fileno(), data, offset)
                touched.update(
                    range(offset // manifest.chunk_bytes, (offset + len(data) - 1) // manifest.chunk_bytes + 1)
                )
            for chunk in touched:
                data = os.pread(file.fileno(), manifest.chunk_bytes, chunk * manifest.chunk_bytes)
                checksums[chunk] = native.checksum(data)
        changed = manifest.model_copy(update={"id": path.name, "synthetic": True, "checksums": tuple(checksums)})
        (path / MANIFEST).write_text(changed.model_dump_json())
        return Bundle.open(path)

    def _changed(self, draw: np.random.Generator) -> Iterator[tuple[int, bytes]]:
        """(offset in weights.coe, bytes) of every tensor that differs."""
        for name, (kind, raw) in self._raw.items():
            place = self._original.manifest.tensors[name]
            if kind == "f32":
                values = raw.view(np.float32)
                yield place.offset, (values * _noise(draw, values.shape)).tobytes()
                continue
            blocks = raw.reshape(-1, BLOCK_BYTES).copy()
            scales = blocks[:, :SCALE_BYTES].copy().view(np.float16)
            blocks[:, :SCALE_BYTES] = (scales * _noise(draw, (len(blocks), 1))).astype(np.float16).view(np.uint8)
            yield place.offset, packing.pack(kind, blocks, place.rows, place.cols).tobytes()


def _noise(draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return draw.uniform(1 - SPREAD, 1 + SPREAD, shape).astype(np.float32)
