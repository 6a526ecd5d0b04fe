"""The kernels' packed layout: panels of 8 rows, each a sequence of records (see the diagram in OPS.md)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coe.native._gguf_blocks import Bytes, Fields, Halves

PANEL = 8  # interleaved rows
BLOCK = 32  # columns per run of quants
STEP = 4  # contiguous columns of a row: one 32-bit lane of a vector


@dataclass(frozen=True)
class Layout:
    """Contents of a record: quants of `bits` bits, `width` columns, `subs` sub-blocks with their own scales."""

    bits: int
    width: int = BLOCK
    has_m: bool = False
    subs: int = 0
    has_mn: bool = False

    @property
    def quant_bytes(self) -> int:
        """Bytes of the quants of one block of 32 columns."""
        return PANEL * BLOCK * self.bits // 8

    @property
    def head_bytes(self) -> int:
        return PANEL * (2 * (1 + self.has_m) + self.subs * (1 + self.has_mn))

    @property
    def record_bytes(self) -> int:
        return self.head_bytes + self.width // BLOCK * self.quant_bytes


LAYOUTS = {
    "q4_0": Layout(4),
    "q4_1": Layout(4, has_m=True),
    "q5_0": Layout(5),
    "q5_1": Layout(5, has_m=True),
    "q8_0": Layout(8),
    "q4_k": Layout(4, 256, has_m=True, subs=8, has_mn=True),
    "q5_k": Layout(5, 256, has_m=True, subs=8, has_mn=True),
    "q6_k": Layout(6, 256, subs=16),
}


def panels(rows: int) -> int:
    return -(-rows // PANEL)


def interleave(field: npt.NDArray[np.generic], per_record: int) -> Bytes:
    """[rows, n] -> bytes [panels, n / per_record, per_record x 8 rows]; missing rows are zero."""
    rows, n = field.shape
    padded = np.zeros((panels(rows) * PANEL, n), field.dtype)
    padded[:rows] = field
    lanes = padded.reshape(-1, PANEL, n // per_record, per_record).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(lanes).view(np.uint8).reshape(panels(rows), n // per_record, -1)


def separate(lanes: Bytes, dtype: npt.DTypeLike, rows: int) -> npt.NDArray[np.generic]:
    """The inverse of `interleave`."""
    count = panels(rows)
    values = np.ascontiguousarray(lanes).view(dtype).reshape(count, -1, PANEL)
    return values.transpose(0, 2, 1).reshape(count * PANEL, -1)[:rows]


_PAIRS = np.array([0, 2, 4, 6], np.uint8)[:, None]
_SINGLES = np.arange(8, dtype=np.uint8)[:, None]


def steps_of(q: Bytes, width: int) -> Bytes:
    """Quants [rows, cols] -> [panels, records, blocks, 8 steps, 32 lanes]; missing rows are zero."""
    rows, cols = q.shape
    count = panels(rows)
    padded = np.zeros((count * PANEL, cols), np.uint8)
    padded[:rows] = q
    lanes = padded.reshape(count, PANEL, cols // width, width // BLOCK, 8, STEP).transpose(0, 2, 3, 4, 1, 5)
    return lanes.reshape(count, cols // width, width // BLOCK, 8, 32)


def quants_of(steps: Bytes, rows: int, cols: int) -> Bytes:
    """The inverse of `steps_of`."""
    count, records, blocks = steps.shape[:3]
    lanes = steps.reshape(count, records, blocks, 8, PANEL, STEP).transpose(0, 4, 1, 2, 3, 5)
    return lanes.reshape(count * PANEL, cols)[:rows]


def single_bits(steps: Bytes) -> Bytes:
    """[..., 8 steps, 32] of one bit -> [..., 1, 32]: bit s of a byte is step s's."""
    bits: Bytes = np.bitwise_or.reduce(steps << _SINGLES, axis=-2, keepdims=True)
    return bits


def from_single_bits(lanes: Bytes) -> Bytes:
    return lanes >> _SINGLES & np.uint8(1)


def bit_pairs(steps: Bytes) -> Bytes:
    """[..., 8 steps, 32] of two bits -> [..., 2, 32]: four steps share a byte."""
    pairs: Bytes = np.bitwise_or.reduce(steps.reshape(*steps.shape[:-2], 2, 4, 32) << _PAIRS, axis=-2)
    return pairs


def from_bit_pairs(lanes: Bytes) -> Bytes:
    return (lanes[..., None, :] >> _PAIRS & np.uint8(3)).reshape(*lanes.shape[:-2], 8, 32)


def _pack_quants(steps: Bytes, bits: int) -> Bytes:
    """[..., 8 steps, 32 lanes] -> [..., bytes]. Nibbles of steps 2i and 2i+1 share a byte; further bits follow."""
    if bits == 8:
        return steps.reshape(*steps.shape[:-2], -1)
    nibble = np.uint8(15)
    parts = [(steps[..., 0::2, :] & nibble) | (steps[..., 1::2, :] & nibble) << np.uint8(4)]
    high = steps >> np.uint8(4)
    if bits == 5:
        parts.append(single_bits(high))
    if bits == 6:
        parts.append(bit_pairs(high))
    return np.concatenate(parts, axis=-2).reshape(*steps.shape[:-2], -1)


def _unpack_quants(packed: Bytes, bits: int) -> Bytes:
    lanes = packed.reshape(*packed.shape[:-1], -1, 32)
    if bits == 8:
        return lanes
    low = np.stack([lanes[..., :4, :] & 15, lanes[..., :4, :] >> 4], axis=-2).reshape(*lanes.shape[:-2], 8, 32)
    if bits == 5:
        low |= from_single_bits(lanes[..., 4:5, :]) << 4
    if bits == 6:
        low |= from_bit_pairs(lanes[..., 4:, :]) << 4
    return low


def pack_fields(layout: Layout, f: Fields) -> Bytes:
    """The packed matrix as a flat byte array."""
    steps = steps_of(f.q, layout.width)
    parts = [interleave(f.d, 1)]
    parts += [interleave(f.m, 1)] if f.m is not None else []
    parts += [interleave(scales, layout.subs) for scales in (f.sc, f.mn) if scales is not None]
    parts.append(_pack_quants(steps, layout.bits).reshape(*steps.shape[:2], -1))
    return np.concatenate(parts, axis=-1).reshape(-1)


def unpack_fields(layout: Layout, packed: Bytes, rows: int, cols: int) -> Fields:
    count, blocks = panels(rows), cols // layout.width
    records = packed.reshape(count, blocks, layout.record_bytes)
    at = 0

    def take(nbytes: int) -> Bytes:
        nonlocal at
        at += nbytes
        return records[..., at - nbytes : at]

    def halves() -> Halves:
        return separate(take(2 * PANEL), np.uint16, rows).view(np.uint16)

    def scales() -> Bytes:
        return separate(take(layout.subs * PANEL), np.uint8, rows).view(np.uint8)

    d = halves()
    m = halves() if layout.has_m else None
    sc = scales() if layout.subs else None
    mn = scales() if layout.has_mn else None
    subs = layout.width // BLOCK
    steps = _unpack_quants(records[..., at:].reshape(count, blocks, subs, -1), layout.bits)
    return Fields(quants_of(steps, rows, cols), d, m, sc, mn)
