"""Repacks GGUF's blocks losslessly into the weight layouts of the kernels.

Groups of 8 rows are independent, so a large matrix may be packed in slices of a multiple of 8 rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from coe.native import _planes
from coe.native._gguf_blocks import BLOCKS, Bytes, Fields, fields
from coe.native._panels import LAYOUTS, interleave, pack_fields, panels, separate, unpack_fields
from coe.native._panels import PANEL as PANEL

_FLOATS: dict[str, type[Any]] = {"f32": np.uint32, "f16": np.uint16, "bf16": np.uint16}
_EXPONENTS = {"f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80}
FORMATS = (*_FLOATS, *LAYOUTS)
# Formats stored plane by plane -> names of their planes.
PLANES = {"q8_0_planes": ("q8_0_high", "q8_0_low")}
# Plane -> GGUF's name of the format it is made from.
_OF_PLANE = {"q8_0_high": "q8_0", "q8_0_low": "q8_0"}
# Zero point, subtracted from a quant before scaling, of the formats without minima.
_ZERO = {"q4_0": 8, "q5_0": 16, "q6_k": 32}


def packed_nbytes(fmt: str, rows: int, cols: int) -> int:
    """Bytes of a packed matrix or plane. Raises ValueError for an unknown format, or if the columns are not whole
    blocks."""
    if fmt in PLANES:
        return sum(packed_nbytes(plane, rows, cols) for plane in PLANES[fmt])
    _require(_OF_PLANE.get(fmt, fmt), cols)
    if fmt == "q8_0_high":
        return packed_nbytes("q5_0", rows, cols)
    if fmt == "q8_0_low":
        return _planes.low_nbytes(rows, cols)
    if fmt in _FLOATS:
        return panels(rows) * PANEL * cols * np.dtype(_FLOATS[fmt]).itemsize
    layout = LAYOUTS[fmt]
    return panels(rows) * (cols // layout.width) * layout.record_bytes


def pack(fmt: str, raw_gguf_blocks: npt.NDArray[Any], rows: int, cols: int) -> Bytes:
    """`raw_gguf_blocks`: the bytes of `rows` rows as GGUF stores them, in any shape. Returns `packed_nbytes` bytes.

    Raises ValueError when their size is wrong, for infinite or NaN weights, and for blocks that planes can't represent
    (`_planes`).
    """
    if fmt in PLANES:
        return np.concatenate([pack(plane, raw_gguf_blocks, rows, cols) for plane in PLANES[fmt]])
    source = _OF_PLANE.get(fmt, fmt)
    _require(source, cols)
    raw = np.ascontiguousarray(raw_gguf_blocks).view(np.uint8).reshape(-1)
    if fmt not in _FLOATS:
        taken_apart = fields(source, raw, rows, cols)
        _require_numbers("f16", taken_apart.d)
        if taken_apart.m is not None:
            _require_numbers("f16", taken_apart.m)
        if fmt == "q8_0_high":
            return _planes.pack_high(taken_apart)
        if fmt == "q8_0_low":
            return _planes.pack_low(taken_apart)
        return pack_fields(LAYOUTS[fmt], taken_apart)
    kind = np.dtype(_FLOATS[fmt])
    if raw.size != rows * cols * kind.itemsize:
        raise ValueError(f"{raw.size} bytes are not a {rows} x {cols} matrix in {fmt}")
    _require_numbers(fmt, raw.view(kind))
    return interleave(raw.view(kind).reshape(rows, cols), 1).reshape(-1)


def unpack(fmt: str, packed: Bytes, rows: int, cols: int) -> npt.NDArray[np.float32]:
    """The packed matrix as float32 [rows, cols]. Does not take single planes."""
    if packed.size != packed_nbytes(fmt, rows, cols):
        raise ValueError(f"{packed.size} bytes are not a packed {rows} x {cols} matrix in {fmt}")
    if fmt in _FLOATS:
        bits = separate(packed, _FLOATS[fmt], rows)
        if fmt == "bf16":
            bits = bits.astype(np.uint32) << 16
        return np.ascontiguousarray(bits).view(np.float16 if fmt == "f16" else np.float32).astype(np.float32)
    if fmt in PLANES:
        return _values("q8_0", _planes.unpack(packed, rows, cols))
    return _values(fmt, unpack_fields(LAYOUTS[fmt], packed, rows, cols))


def _values(fmt: str, f: Fields) -> npt.NDArray[np.float32]:
    rows, cols = f.q.shape

    def spread(field: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.repeat(field.astype(np.float32), cols // field.shape[1], axis=1)

    q = f.q.view(np.int8) if fmt == "q8_0" else f.q.astype(np.int16) - _ZERO.get(fmt, 0)
    scale = spread(f.d.view(np.float16))
    if f.sc is not None:
        scale = scale * spread(f.sc.view(np.int8))
    values: npt.NDArray[np.float32] = scale * q.astype(np.float32)
    if f.m is not None:
        minimum = spread(f.m.view(np.float16))
        values = values - minimum * spread(f.mn) if f.mn is not None else values + minimum
    return values.reshape(rows, cols)


def _require_numbers(fmt: str, bits: npt.NDArray[Any]) -> None:
    """Raises ValueError for NaNs and infinities."""
    exponent = bits.dtype.type(_EXPONENTS[fmt])
    if ((bits & exponent) == exponent).any():
        raise ValueError("a weight or the scale of a block is infinite or NaN: the file is damaged")


def _require(fmt: str, cols: int) -> None:
    if fmt not in FORMATS:
        raise ValueError(f"unknown format {fmt}: expected one of {', '.join(FORMATS)}")
    width = BLOCKS[fmt][1] if fmt in BLOCKS else 1
    if cols % width:
        raise ValueError(f"{fmt} needs a multiple of {width} columns, got {cols}")
