"""Packs planned tensors in pieces, so that no tensor ever has to be in memory as a whole."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from coe.experts.layout import PlannedTensor
from coe.experts.manifest import PlacedTensor
from coe.experts.source import ModelSource, SourceTensor
from coe.native import packing
from coe.platform.errors import ArtifactError

Bytes = npt.NDArray[np.uint8]
# Rows per piece are a multiple of this, so that pieces are whole panels in every packed layout.
ROW_TILE = 64
# Small enough for a piece's temporary arrays to stay in cache, large enough for numpy to release the GIL.
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """`nbytes` of weights.coe starting at `offset`, computed on demand."""

    offset: int
    nbytes: int
    # Safe to call from any thread.
    make: Callable[[], Bytes]


def pieces(source: ModelSource, planned: list[PlannedTensor], placed: Mapping[str, PlacedTensor]) -> Iterator[Piece]:
    """All of weights.coe in order; gaps between pieces are zeros."""
    for tensor in planned:
        place = placed[tensor.name]
        if tensor.is_vector:
            yield Piece(place.offset, place.nbytes, lambda tensor=tensor: _vector(source, tensor))  # type: ignore[misc]
        else:
            yield from _matrix_pieces(source, tensor, place)


def _matrix_pieces(source: ModelSource, tensor: PlannedTensor, place: PlacedTensor) -> Iterator[Piece]:
    def make(plane: str, start: int, stop: int) -> Bytes:
        raw = _rows(source, tensor.sources, start, stop)
        try:
            return packing.pack(plane, raw, stop - start, tensor.cols)
        except ValueError as error:
            raise ArtifactError(f"{tensor.name}: {error}") from error

    bytes_per_row = max(1, place.nbytes // tensor.rows)
    step = max(1, PIECE_BYTES // bytes_per_row // ROW_TILE) * ROW_TILE
    offset = place.offset
    # Planes follow one another, so their source rows are read and split once per plane.
    for plane in packing.PLANES.get(tensor.format, (tensor.format,)):
        for start in range(0, tensor.rows, step):
            stop = min(start + step, tensor.rows)
            nbytes = packing.packed_nbytes(plane, stop - start, tensor.cols)
            yield Piece(offset, nbytes, partial(make, plane, start, stop))
            offset += nbytes


def _rows(source: ModelSource, sources: tuple[SourceTensor, ...], start: int, stop: int) -> np.ndarray:
    """Rows [start, stop) of the concatenated sources."""
    parts = []
    first = 0
    for tensor in sources:
        low, high = max(start - first, 0), min(stop - first, tensor.rows)
        if low < high:
            parts.append(source.read_rows(tensor, low, high))
        first += tensor.rows
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _vector(source: ModelSource, tensor: PlannedTensor) -> Bytes:
    raw = np.concatenate([source.read_rows(part, 0, 1) for part in tensor.sources], axis=1).reshape(-1)
    if not np.isfinite(raw.view(np.float32)).all():
        raise ArtifactError(f"{tensor.name}: a value is infinite or NaN: the file is damaged")
    return raw
