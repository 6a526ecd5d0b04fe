"""Reads safetensors files without trusting them: the header is bounded and checked, data is read in row ranges."""

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from coe.experts import lfs
from coe.platform.errors import ArtifactError

# A header of ten thousand tensors is 1 MiB; hostile JSON takes twenty times its length in memory.
MAX_HEADER = 16 << 20
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class StoredTensor:
    """Bytes [offset, offset + nbytes) of the file hold `rows` x `cols` numbers. A vector has one row."""

    name: str
    kind: str
    rows: int
    cols: int
    offset: int

    @property
    def row_bytes(self) -> int:
        return self.cols * ITEM_BYTES[self.kind]


class SafetensorsFile:
    """An open file. Tensors whose dtype or rank can't be that of weights are skipped. Raises ArtifactError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ArtifactError(f"can't read {path}: {error.strerror}") from error
        try:
            self.tensors = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def read_rows(self, tensor: StoredTensor, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as uint8 [stop - start, row_bytes]."""
        size = (stop - start) * tensor.row_bytes
        data = os.pread(self._file.fileno(), size, tensor.offset + start * tensor.row_bytes)
        if len(data) != size:
            raise self._error(f"it ended within tensor {tensor.name}")
        return np.frombuffer(data, np.uint8).reshape(stop - start, tensor.row_bytes)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_header(self) -> dict[str, StoredTensor]:
        size = os.fstat(self._file.fileno()).st_size
        head = self._file.read(8)
        if head == lfs.POINTER[:8]:
            raise self._error(lfs.WHY)
        length = int.from_bytes(head, "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise self._error("its header is longer than the file or the limit")
        try:
            header = json.loads(self._file.read(length))
        except (ValueError, RecursionError):
            raise self._error("its header is not valid JSON") from None
        if not isinstance(header, dict):
            raise self._error("its header is not a JSON object")
        spans = []
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = self._span(name, entry, size - 8 - length)
            spans.append((begin, end))
            tensor = self._tensor(name, entry, 8 + length + begin, end - begin)
            if tensor is not None:
                tensors[name] = tensor
        if any(one[1] > two[0] for one, two in pairwise(sorted(spans))):
            raise self._error("its tensors overlap")
        return tensors

    def _span(self, name: str, entry: Any, size: int) -> tuple[int, int]:
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        match offsets:
            case [int(begin), int(end)] if 0 <= begin <= end <= size:
                return begin, end
        raise self._error(f"tensor {name!r} extends past the end of the file: it is truncated or damaged")

    def _tensor(self, name: str, entry: dict[str, Any], offset: int, nbytes: int) -> StoredTensor | None:
        kind, shape = entry.get("dtype"), entry.get("shape")
        if kind not in ITEM_BYTES or not isinstance(shape, list) or len(shape) not in (1, 2):
            return None
        if not all(type(size) is int and size > 0 for size in shape):
            return None
        rows, cols = (1, shape[0]) if len(shape) == 1 else shape
        if rows * cols * ITEM_BYTES[kind] != nbytes:
            raise self._error(f"the shape of tensor {name!r} does not match its number of bytes")
        return StoredTensor(name, kind, rows, cols, offset)

    def _error(self, reason: str) -> ArtifactError:
        return ArtifactError(f"{self.path.name} is not a usable safetensors file: {reason}", path=self.path)
