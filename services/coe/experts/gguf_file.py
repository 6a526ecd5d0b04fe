"""Reads GGUF files (v2, v3, little endian) without trusting them.

Nothing is memory-mapped and no count in the file is trusted: every length is checked against the remaining bytes before
anything is allocated. Tensors are read in row ranges with `pread`, so a 40 GB file takes a few MiB of memory.
"""

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from coe.experts import lfs
from coe.platform.errors import ArtifactError

MAGIC = b"GGUF"
# A vocabulary of a million tokens with its merges takes half of this. As Python objects it may be ten times as large.
MAX_HEADER = 64 << 20
MAX_ENTRIES = 1 << 16
MAX_STRING = 16 << 20
MAX_ARRAY = 1 << 22
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]


@dataclass(frozen=True)
class GgufTensor:
    """Location and shape of a tensor. `rows` x `cols` is its matrix shape (cols is the fastest axis), `kind` its ggml
    type."""

    name: str
    kind: str
    rows: int
    cols: int
    offset: int
    row_bytes: int

    @property
    def nbytes(self) -> int:
        return self.rows * self.row_bytes


class GgufFile:
    """An open file: `metadata`, `tensors`, and rows of a tensor as raw blocks. Raises ArtifactError for a bad file."""

    def __init__(self, path: Path, file: BinaryIO, metadata: Mapping[str, Value], tensors: Mapping[str, GgufTensor]):
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self:
        try:
            file = path.open("rb")
        except OSError as error:
            raise ArtifactError(f"can't read {path}: {error.strerror}", path=path) from error
        try:
            metadata, tensors = _Header(file, path).parse()
        except BaseException:
            file.close()
            raise
        return cls(path, file, metadata, tensors)

    def read_rows(self, tensor: GgufTensor, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as uint8 [stop - start, row_bytes]."""
        size = (stop - start) * tensor.row_bytes
        data = os.pread(self._file.fileno(), size, tensor.offset + start * tensor.row_bytes)
        if len(data) != size:
            raise ArtifactError(f"{self.path.name} ended within tensor {tensor.name}", path=self.path)
        return np.frombuffer(data, np.uint8).reshape(stop - start, tensor.row_bytes)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Header:
    """One pass over the header."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = os.fstat(file.fileno()).st_size

    def parse(self) -> tuple[dict[str, Value], dict[str, GgufTensor]]:
        if (head := self._take(4)) != MAGIC:
            pointer = head == lfs.POINTER[:4]
            raise self._error(lfs.WHY if pointer else "it does not start with the GGUF magic")
        version = self._scalar("<I")
        if version not in (2, 3):
            raise self._error(f"GGUF version {version} is not supported")
        tensor_count, entry_count = self._count("tensors"), self._count("metadata entries")
        metadata: dict[str, Value] = {}
        for _ in range(entry_count):
            key = self._string()
            if key in metadata:
                raise self._error(f"metadata key {key!r} appears twice")
            metadata[key] = self._value(self._scalar("<I"))
        described = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self._error("its alignment is not a power of two")
        return metadata, self._placed(described, alignment)

    def _placed(self, described: list[GgufTensor], alignment: int) -> dict[str, GgufTensor]:
        start = -(-self._file.tell() // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        total = 0
        for tensor in described:
            if tensor.name in tensors:
                raise self._error(f"tensor {tensor.name!r} appears twice")
            if start + tensor.offset + tensor.nbytes > self._size:
                raise self._error(f"tensor {tensor.name!r} extends past the end of the file: it is truncated")
            total += tensor.nbytes
            tensors[tensor.name] = GgufTensor(
                tensor.name, tensor.kind, tensor.rows, tensor.cols, start + tensor.offset, tensor.row_bytes
            )
        if total > self._size:
            raise self._error("its tensors overlap")
        return tensors

    def _tensor(self) -> GgufTensor:
        name = self._string()
        dimensions = self._scalar("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._error(f"tensor {name!r} has {dimensions} dimensions")
        shape = [self._scalar("<Q") for _ in range(int(dimensions))]
        code, offset = self._scalar("<I"), int(self._scalar("<Q"))
        try:
            kind = GGMLQuantizationType(int(code))
            block, block_bytes = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            raise self._error(f"tensor {name!r} has unknown type {code}") from None
        cols, rows = int(shape[0]), 1
        for size in shape[1:]:
            rows *= int(size)
        if cols < 1 or rows < 1 or cols % block or cols // block * block_bytes * rows > self._size:
            raise self._error(f"tensor {name!r} has an impossible shape")
        return GgufTensor(name, kind.name.lower(), rows, cols, offset, cols // block * block_bytes)

    def _value(self, code: int | float) -> Value:
        if code != ARRAY:
            return self._reader(code)()
        element, count = self._scalar("<I"), int(self._scalar("<Q"))
        read = self._reader(element)
        smallest = 8 if element == STRING else struct.calcsize(SCALARS[int(element)])
        if count > MAX_ARRAY or count * smallest > self._left():
            raise self._error("an array is too long")
        if element == STRING:
            return [read() for _ in range(count)]
        form = SCALARS[int(element)]
        return list(struct.unpack(f"<{count}{form[1]}", self._take(count * smallest)))

    def _reader(self, code: int | float) -> Callable[[], Scalar]:
        if code == STRING:
            return self._string
        form = SCALARS.get(int(code))
        if form is None:
            raise self._error(f"a metadata value has unknown type {code}")
        return lambda: self._scalar(form)

    def _count(self, of: str) -> int:
        count = int(self._scalar("<Q"))
        if count > MAX_ENTRIES:
            raise self._error(f"it claims {count} {of}")
        return count

    def _string(self) -> str:
        size = int(self._scalar("<Q"))
        if size > MAX_STRING:
            raise self._error("a string is too long")
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise self._error("a string is not valid UTF-8") from None

    def _scalar(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _take(self, size: int) -> bytes:
        if size > self._left():
            raise self._error("it ends within its header")
        return self._file.read(size)

    def _left(self) -> int:
        at = self._file.tell()
        if at > MAX_HEADER:
            raise self._error("its header is too long")
        return self._size - at

    def _error(self, reason: str) -> ArtifactError:
        return ArtifactError(f"{self._path.name} is not a usable GGUF file: {reason}", path=self._path)
